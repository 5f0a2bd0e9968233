"""The platform as a whole: its parts started side by side, watched, and stopped.

`up` is safe to call at any time: what runs is left alone, what is missing is started. Nothing here
prints; progress goes to the caller as lines.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from deploy.local import parts, process
from deploy.local.process import Record, Server
from deploy.local.settings import LocalSettings, Port
from schemas.errors import TunemeshError
from verification.progress import Progress, Step, silent

LOG_LINES = 20

Report = Callable[[str], None]
"""Takes one line of progress at a time; called from several threads, one at a time."""


class PlatformError(TunemeshError):
    """Parts that did not start: one paragraph each."""


class PortInUseError(PlatformError):
    """A port that somebody else has."""

    def __init__(self, server: str, port: Port, holder: str) -> None:
        by = f" by {holder}" if holder else ""
        super().__init__(
            f"{server}: port {port.number} on 127.0.0.1 is in use{by}. "
            f"Stop that, or choose another port: {port.variable}=..."
        )


class State(Enum):
    """What is known of a server."""

    RUNNING = "running"
    """It runs and answers."""
    SILENT = "not answering"
    """It runs and does not answer."""
    DEAD = "dead"
    """It was started and is gone, without having been stopped."""
    STOPPED = "stopped"
    """It was never started, or has been stopped."""


@dataclass(frozen=True, slots=True)
class Status:
    """A server as `tunemesh status` shows it."""

    server: str
    part: str
    state: State
    pid: int | None
    since: datetime | None
    address: str
    last_lines: tuple[str, ...]
    """The end of its log, if it is dead."""


def up(
    settings: LocalSettings,
    names: Iterable[str] = (),
    *,
    environ: Mapping[str, str],
    fresh: bool = False,
    report: Report = lambda line: None,
    progress: Progress = silent,
) -> None:
    """Starts the named parts (those of the streams for no name) and returns when each answers.

    With `fresh`, the named parts are stopped first and their data is removed. Raises
    :class:`PortInUseError` before anything is started, and :class:`PlatformError` with the end of
    the log of each part that died or did not answer in time; the others keep running then.
    """
    chosen = parts.to_start(names)
    settings.run.mkdir(parents=True, exist_ok=True)
    with _exclusive(settings, report):
        servers = parts.servers(settings, chosen, environ)
        if fresh:
            _stop(settings, _recorded_of(settings, chosen), report, progress)
            for part in chosen:
                shutil.rmtree(settings.data(part), ignore_errors=True)
        absent = []
        for server in servers:
            record = process.recorded(settings, server.name)
            if process.running(record) is None:
                absent.append(server)
            elif record is not None and not _same_ports(record, server):
                raise PlatformError(
                    f"{server.name} runs on port {record.ports[0]} already, with other settings "
                    f"than now. Stop it first: tunemesh down {server.part}"
                )
        for server in absent:
            # What a dead server has left behind would keep its ports.
            process.stop(settings, server.name, settings.stop_seconds)
        for server in absent:
            for port in server.ports:
                if not process.port_released(port):
                    raise PortInUseError(server.name, port, process.listener(port))
        _start_all(settings, servers, absent, environ, report, progress)


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

    def one(server: Server) -> str | None:
        """Starts a server unless it runs; waits until it answers; what went wrong, if anything."""
        present = server.name not in to_start
        try:
            if not present:
                settings.data(server.part).mkdir(parents=True, exist_ok=True)
                process.start(settings, server, server.prepare(), environ)
            problem = _await(settings, server)
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
        problems = [problem for problem in pool.map(one, list(waiting.values())) if problem]
    if problems:
        raise PlatformError("\n".join(problems))


def _await(settings: LocalSettings, server: Server) -> str | None:
    """Waits until the server answers; None then, else what happened with the end of its log."""
    deadline = time.monotonic() + settings.start_seconds
    while not server.healthy():
        if process.running(process.recorded(settings, server.name)) is None:
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
    """Stops the named parts (all for no name), also what an earlier setting has started.

    Returns when none of their processes is left.
    """
    chosen = parts.chosen(names)
    if not settings.run.is_dir():
        return
    with _exclusive(settings, report):
        _stop(settings, _recorded_of(settings, chosen), report, progress)


def _recorded_of(settings: LocalSettings, chosen: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in process.all_recorded(settings) if parts.part_of(name) in chosen)


def _stop(
    settings: LocalSettings, servers: tuple[str, ...], report: Report, progress: Progress
) -> None:
    started = time.monotonic()
    lock = threading.Lock()
    waiting = list(servers)

    def one(server: str) -> None:
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
        list(pool.map(one, servers))


def status(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Status, ...]:
    """Every server of the platform as it is now, and what else is recorded."""
    servers = {server.name: server for server in parts.servers(settings, (), environ)}
    names = [*servers, *(name for name in process.all_recorded(settings) if name not in servers)]
    with ThreadPoolExecutor(max_workers=len(names), thread_name_prefix="status") as pool:
        return tuple(pool.map(lambda name: _status(settings, name, servers.get(name)), names))


def _status(settings: LocalSettings, name: str, server: Server | None) -> Status:
    record = process.recorded(settings, name)
    alive = process.running(record)
    if record is None:
        state = State.STOPPED
    elif alive is None:
        state = State.DEAD
    elif server is None or server.healthy():
        state = State.RUNNING
    else:
        state = State.SILENT
    return Status(
        server=name,
        part=parts.part_of(name),
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
    """One `up` or `down` at a time in a home; a second one waits."""
    with (settings.run / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("  waiting for another `tunemesh up` or `down`")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
