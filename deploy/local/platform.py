"""The platform as a whole: its services are started in parallel, observed, and stopped.

`up` can be called at any time: it starts what is missing, and does not restart what runs. Nothing
here prints; progress is reported to the caller.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from connectors.files import PRIVATE_UMASK
from deploy.local import process, services
from deploy.local.process import Record, Server
from deploy.local.settings import LocalSettings, Port
from schemas.errors import TunemeshError
from verification.progress import Progress, Step, silent

LOG_LINES = 20

HOME_ENTRIES = (
    *("applications", "data", "dlq.sqlite", "ledger", "logs", "releases", "reports", "run"),
    *("spill", "upgrades"),
)
"""What the platform and the commands keep in the home."""

Report = Callable[[str], None]
"""Takes one line of progress; called from several threads, but never concurrently."""


class PlatformError(TunemeshError):
    """Services did not start; one paragraph for each."""


class PortInUseError(PlatformError):
    """Another process listens on a port."""

    def __init__(self, server: str, port: Port, holder: str) -> None:
        by = f" by {holder}" if holder else ""
        super().__init__(
            f"{server}: port {port.number} on 127.0.0.1 is in use{by}. "
            f"Stop that process, or choose another port: {port.variable}=..."
        )


class State(Enum):
    """The state of a server."""

    RUNNING = "running"
    """It runs and answers."""
    SILENT = "not answering"
    """It runs and does not answer."""
    DEAD = "dead"
    """It was started and has ended without being stopped."""
    STOPPED = "stopped"
    """It was never started, or was stopped."""


@dataclass(frozen=True, slots=True)
class Status:
    """A server as `tunemesh status` shows it."""

    server: str
    service: str
    state: State
    pid: int | None
    since: datetime | None
    address: str
    last_lines: tuple[str, ...]
    """The end of its log if it is dead."""


def up(
    settings: LocalSettings,
    names: Iterable[str] = (),
    *,
    environ: Mapping[str, str],
    fresh: bool = False,
    report: Report = lambda line: None,
    progress: Progress = silent,
) -> None:
    """Start the named services, by default those that streams need; returns when each answers.

    With `fresh`, the services are stopped first and their data is deleted. Raises
    :class:`PortInUseError` before anything is started, and :class:`PlatformError` with the end of
    the log of each service that died or did not answer in time; the others keep running.
    """
    chosen = services.select(names, services.STREAMING)
    make_private(settings)
    with _exclusive(settings, report):
        servers = services.servers(settings, chosen, environ)
        if fresh:
            _stop(settings, _list_servers(settings, chosen), report, progress)
            for service in chosen:
                shutil.rmtree(settings.data(service), ignore_errors=True)
        absent = []
        for server in servers:
            record = process.read_record(settings, server.name)
            if process.find_process(record) is None:
                absent.append(server)
            elif record is not None and not _same_ports(record, server):
                raise PlatformError(
                    f"{server.name} already runs on port {record.ports[0]}, with other settings. "
                    f"Stop it first: tunemesh down {services.service_of(server.name)}"
                )
        for server in absent:
            # Children of a dead server would keep its ports.
            process.stop(settings, server.name, settings.stop_seconds)
        for server in absent:
            for port in server.ports:
                if not process.wait_port_free(port):
                    raise PortInUseError(server.name, port, process.describe_listener(port))
        _start_all(settings, servers, absent, environ, report, progress)


def make_private(settings: LocalSettings) -> None:
    """Create the folders of servers, and close to other users what earlier releases left open.

    The home itself may be a folder that others use, so only entries of the platform are changed.
    """
    if not settings.home.exists():
        settings.home.mkdir(mode=0o700, parents=True)
    for folder in (settings.run, settings.home / "data", settings.home / "logs"):
        folder.mkdir(mode=0o700, exist_ok=True)
    for name in HOME_ENTRIES:
        entry = settings.home / name
        if entry.exists() and entry.stat().st_uid == os.geteuid():
            entry.chmod(entry.stat().st_mode & ~PRIVATE_UMASK)


def _start_all(
    settings: LocalSettings,
    servers: Iterable[Server],
    absent: Iterable[Server],
    environ: Mapping[str, str],
    report: Report,
    progress: Progress,
) -> None:
    started = time.monotonic()
    lock = threading.Lock()
    to_start = {server.name for server in absent}
    waiting = {server.name: server for server in servers}
    total = len(waiting)

    def show_waiting() -> None:
        note = f"waiting for {', '.join(waiting)}" if waiting else ""
        progress(Step("starting services", total - len(waiting), total, note))

    def start(server: Server) -> str | None:
        """Start a server unless it runs, and wait until it answers; returns the problem, if any."""
        present = server.name not in to_start
        try:
            if not present:
                data = settings.data(services.service_of(server.name))
                data.mkdir(mode=0o700, parents=True, exist_ok=True)
                process.start(settings, server, server.prepare(), environ)
            problem = _wait_healthy(settings, server)
        except TunemeshError as error:
            problem = str(error)
        seconds = time.monotonic() - started
        with lock:
            if problem is None:
                state = "already running" if present else f"ready after {seconds:.1f} s"
                report(f"  {server.name:<20} {state:<18} {server.address}")
            else:
                report(f"  {server.name:<20} FAILED after {seconds:.1f} s")
            del waiting[server.name]
            show_waiting()
        return problem

    show_waiting()
    with ThreadPoolExecutor(max_workers=max(1, total), thread_name_prefix="up") as pool:
        problems = [problem for problem in pool.map(start, list(waiting.values())) if problem]
    if problems:
        raise PlatformError("\n".join(problems))


def _wait_healthy(settings: LocalSettings, server: Server) -> str | None:
    """Wait until the server answers; otherwise returns the problem, with the end of its log."""
    deadline = time.monotonic() + settings.start_seconds
    while not server.is_healthy():
        if not process.is_running(settings, server.name):
            return f"{server.name} died while starting.\n{_log_end(settings, server.name)}"
        if time.monotonic() >= deadline:
            return (
                f"{server.name} did not answer within {settings.start_seconds:.0f} s "
                f"(TUNEMESH_START_SECONDS); it still runs.\n{_log_end(settings, server.name)}"
            )
        time.sleep(process.POLL_SECONDS)
    return None


def down(
    settings: LocalSettings,
    names: Iterable[str] = (),
    *,
    report: Report = lambda line: None,
    progress: Progress = silent,
) -> None:
    """Stop the named services, by default all, including servers of earlier settings.

    Returns when none of their processes is left.
    """
    chosen = services.select(names)
    if not settings.run.is_dir():
        return
    with _exclusive(settings, report):
        _stop(settings, _list_servers(settings, chosen), report, progress)


def _list_servers(settings: LocalSettings, chosen: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        name for name in process.list_recorded(settings) if services.service_of(name) in chosen
    )


def _stop(
    settings: LocalSettings, servers: tuple[str, ...], report: Report, progress: Progress
) -> None:
    started = time.monotonic()
    lock = threading.Lock()
    waiting = list(servers)

    def stop(server: str) -> None:
        stopped = process.stop(settings, server, settings.stop_seconds)
        with lock:
            state = (
                f"stopped after {time.monotonic() - started:.1f} s"
                if stopped
                else "was not running"
            )
            report(f"  {server:<20} {state}")
            waiting.remove(server)
            progress(Step("stopping services", len(servers) - len(waiting), len(servers)))

    with ThreadPoolExecutor(max_workers=max(1, len(servers)), thread_name_prefix="down") as pool:
        list(pool.map(stop, servers))


def status(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Status, ...]:
    """Return the status of every server of the platform, and of other recorded servers."""
    servers = {server.name: server for server in services.servers(settings, (), environ)}
    names = [*servers, *(name for name in process.list_recorded(settings) if name not in servers)]
    with ThreadPoolExecutor(max_workers=len(names), thread_name_prefix="status") as pool:
        return tuple(pool.map(lambda name: _status(settings, name, servers.get(name)), names))


def _status(settings: LocalSettings, name: str, server: Server | None) -> Status:
    record = process.read_record(settings, name)
    alive = process.find_process(record)
    if alive is not None:
        process.cut_log(settings.log(name))
    if record is None:
        state = State.STOPPED
    elif alive is None:
        state = State.DEAD
    elif server is None or server.is_healthy():
        state = State.RUNNING
    else:
        state = State.SILENT
    return Status(
        server=name,
        service=services.service_of(name),
        state=state,
        pid=record.pid if record and alive else None,
        since=datetime.fromtimestamp(record.started).astimezone() if record and alive else None,
        address=server.address if server else "",
        last_lines=(
            tuple(process.tail(settings.log(name), LOG_LINES)) if state is State.DEAD else ()
        ),
    )


def _same_ports(record: Record, server: Server) -> bool:
    return record.ports == tuple(port.number for port in server.ports)


def _log_end(settings: LocalSettings, server: str) -> str:
    log = settings.log(server)
    lines = process.tail(log, LOG_LINES)
    if not lines:
        return f"  Its log is empty: {log}"
    return f"  The end of {log}:\n" + "\n".join(f"    {line}" for line in lines)


@contextlib.contextmanager
def _exclusive(settings: LocalSettings, report: Report) -> Iterator[None]:
    """Wait until no other `up` or `down` runs in this home."""
    with (settings.run / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("  waiting for another `tunemesh up` or `down`")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
