"""Server processes, tested with processes that only sleep."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from deploy.local import platform, process
from deploy.local.process import Launch, Server
from deploy.local.settings import LocalSettings, Port
from tests.support.ports import free_port
from tests.support.waiting import wait_until

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
print("child", child.pid, flush=True)
{SLEEP}
"""


def sleeper(code: str = SLEEP, name: str = "sleeper") -> Server:
    launch = Launch((sys.executable, "-S", "-c", code), {})
    return Server(name, (), "", lambda: launch, lambda: True)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[LocalSettings]:
    settings = LocalSettings.from_environment({"TUNEMESH_HOME": str(tmp_path / "home")})
    settings.home.mkdir()
    yield settings
    for name in process.list_recorded(settings):
        process.stop(settings, name, 1)


def start(settings: LocalSettings, server: Server) -> process.Record:
    record = process.start(settings, server, server.prepare(), os.environ)
    wait_until(lambda: "up" in process.tail(settings.log(server.name), 10))
    return record


def test_a_server_is_known_again_by_its_record(settings: LocalSettings) -> None:
    """A later command finds what an earlier one has started."""
    record = start(settings, sleeper())

    assert process.read_record(settings, "sleeper") == record
    found = process.find_process(record)
    assert found is not None
    assert found.pid == record.pid


def test_what_a_server_creates_is_the_user_s_alone(settings: LocalSettings) -> None:
    """Whatever the umask of the process that starts it."""
    before = os.umask(0o022)
    try:
        start(settings, sleeper(f"import os; os.mkdir('d'); open('d/f', 'w').close(); {SLEEP}"))
    finally:
        os.umask(before)
    created = settings.home / "d"
    assert stat.filemode(created.stat().st_mode) == "drwx------"
    assert stat.filemode((created / "f").stat().st_mode) == "-rw-------"


def test_what_an_earlier_release_left_open_is_closed(settings: LocalSettings) -> None:
    """Entries of the platform; the home itself may be a folder that others use."""
    settings.home.chmod(0o755)
    for name in ("data", "ledger", "others"):
        (settings.home / name).mkdir(mode=0o755)
        (settings.home / name).chmod(0o755)
    (settings.home / "dlq.sqlite").touch()
    (settings.home / "dlq.sqlite").chmod(0o644)
    platform.make_private(settings)
    modes = {entry.name: stat.filemode(entry.stat().st_mode) for entry in settings.home.iterdir()}
    assert modes == {
        "data": "drwx------",
        "dlq.sqlite": "-rw-------",
        "ledger": "drwx------",
        "logs": "drwx------",
        "others": "drwxr-xr-x",
        "run": "drwx------",
    }
    fresh = replace(settings, home=settings.home / "new")
    platform.make_private(fresh)
    assert stat.filemode(fresh.home.stat().st_mode) == "drwx------"


def test_a_process_that_got_the_same_id_is_not_taken_for_ours(settings: LocalSettings) -> None:
    """After a reboot a recorded id may be anybody's: it must never be stopped."""
    bystander = subprocess.Popen([sys.executable, "-S", "-c", SLEEP], stdout=subprocess.DEVNULL)
    try:
        record = start(settings, sleeper())
        process.stop(settings, "sleeper", 5)
        stale = asdict(replace(record, pid=bystander.pid))
        (settings.run / "sleeper.json").write_text(json.dumps(stale), encoding="utf-8")
        assert process.read_record(settings, "sleeper") is not None

        assert not process.is_running(settings, "sleeper")
        assert process.stop(settings, "sleeper", 1) is False
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize(("code", "seconds"), [(SLEEP, 5), (STUBBORN, 0.3)], ids=["TERM", "KILL"])
def test_stop_ends_the_server_and_removes_its_record(
    settings: LocalSettings, code: str, seconds: float
) -> None:
    """A process that ignores TERM is killed after the limit; stopping twice is fine."""
    record = start(settings, sleeper(code))

    assert process.stop(settings, "sleeper", seconds) is True
    assert not psutil.pid_exists(record.pid)
    assert process.read_record(settings, "sleeper") is None
    assert process.stop(settings, "sleeper", seconds) is False


def test_stop_ends_children_too(settings: LocalSettings) -> None:
    """Also a child in its own session, and also when its parent has ended."""
    record = start(settings, sleeper(PARENT))
    lines = process.tail(settings.log("sleeper"), 10)
    child = int(next(line for line in lines if line.startswith("child")).split()[1])
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: process.find_process(record) is None)
    assert psutil.pid_exists(child)

    assert process.stop(settings, "sleeper", 5) is True
    wait_until(lambda: not process.find_processes(settings, "sleeper"))


def test_the_record_of_a_killed_server_is_kept(settings: LocalSettings) -> None:
    """So that `status` can name it: dead is not stopped."""
    start(settings, sleeper())

    pid = process.kill(settings, "sleeper")

    record = process.read_record(settings, "sleeper")
    assert record is not None
    assert record.pid == pid
    assert process.find_process(record) is None
    with pytest.raises(LookupError):
        process.kill(settings, "sleeper")


def test_homes_do_not_touch_each_other(settings: LocalSettings, tmp_path: Path) -> None:
    """Stopping a server of one home leaves the server of that name in another."""
    other = replace(settings, home=tmp_path / "other")
    other.home.mkdir()
    record = start(settings, sleeper())

    assert process.stop(other, "sleeper", 1) is False
    assert process.find_process(record) is not None


def test_each_start_has_a_log_of_its_own(settings: LocalSettings) -> None:
    """The end of a log is the end of this run; the run before is kept beside it."""
    start(settings, sleeper(f"print('first', flush=True); {SLEEP}"))
    process.stop(settings, "sleeper", 5)
    start(settings, sleeper(f"print('second', flush=True); {SLEEP}"))

    assert process.tail(settings.log("sleeper"), 9) == ["second", "up"]
    assert process.tail(settings.log("sleeper").with_name("sleeper.log.1"), 9) == ["first", "up"]


def test_a_long_log_is_cut_while_its_server_writes(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has logged is in the older log; what it logs then is at the beginning of the new."""
    monkeypatch.setattr(process, "MAX_LOG_BYTES", 10)
    on_signal = "signal.signal(signal.SIGUSR1, lambda *_: print('later', flush=True))"
    record = start(settings, sleeper(f"import signal; {on_signal}; print('a long line'); {SLEEP}"))
    log, older = settings.log("sleeper"), settings.log("sleeper").with_name("sleeper.log.1")
    process.cut_log(log)
    assert (log.read_bytes(), older.read_bytes()) == (b"", b"a long line\nup\n")
    os.kill(record.pid, signal.SIGUSR1)
    wait_until(lambda: log.read_bytes() == b"later\n")
    process.cut_log(log)
    assert (log.read_bytes(), older.read_bytes()) == (b"later\n", b"a long line\nup\n")


def test_tail_gives_the_last_lines_of_long_logs(tmp_path: Path) -> None:
    """Of large files only the end is read; of files that are not there nothing."""
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {n}\n" for n in range(50_000)), encoding="utf-8")

    assert process.tail(log, 3) == ["line 49997", "line 49998", "line 49999"]
    assert process.tail(tmp_path / "none.log", 3) == []


def test_a_port_in_use_is_seen_with_its_holder() -> None:
    """The holder is named so that the user can stop it."""
    port = Port(free_port(), "TUNEMESH_X_PORT")
    assert process.is_port_free(port)
    server = f"socket.create_server(('127.0.0.1', {port.number}))"
    code = f"import socket, time; s = {server}; time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        wait_until(lambda: not process.is_port_free(port))
        assert process.is_listening(port)
        assert str(holder.pid) in process.describe_listener(port)
    finally:
        holder.kill()
        holder.wait()
