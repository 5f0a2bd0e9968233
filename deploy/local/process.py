"""Server processes: started in separate sessions, found again later, stopped with their children.

Each server has a record in `run/<server>.json`. A process id alone does not identify a process,
since ids are reused: a process is the server only if it started at the recorded time and has the
server's mark, a variable in its environment. Children inherit the mark, so they are found even when
the server has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

import psutil

from connectors.files import PRIVATE_UMASK, write_whole
from deploy.local.settings import HOST, LocalSettings, Port

MARK = "TUNEMESH_SERVER"
"""The variable in the environment of a server and of all its children: `<home>#<server>`."""

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server: its arguments, and what is added to the environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    """The signal that stops it in order."""


@dataclass(frozen=True, slots=True)
class Server:
    """One process of the platform."""

    name: str
    """Its name in `status` and `logs`, such as kafka or flink-taskmanager-1."""
    ports: tuple[Port, ...]
    """The ports that it must find free."""
    address: str
    """The address for clients and users."""
    prepare: Callable[[], Launch]
    """Write its configuration and return how to start it; called right before the start, and may
    block."""
    is_healthy: Callable[[], bool]
    """Return whether it answers now; blocks for about a second at most, and never raises."""


@dataclass(frozen=True, slots=True)
class Record:
    """The content of `run/<server>.json`: a started server."""

    server: str
    pid: int
    started: float
    """When the process started, as the system reports it, in seconds since the epoch."""
    mark: str
    ports: tuple[int, ...]
    stop_signal: int = signal.SIGTERM


MAX_LOG_BYTES = 100 * 2**20
"""Of one log; of each server there are two."""

CLOCK_SECONDS = 2.0
"""How much two readings of a process's start may differ, since the system's clock is adjusted."""

# Servers started by this process, which must wait for them: otherwise they remain as zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


def mark_of(settings: LocalSettings, server: str) -> str:
    """Return the value of :data:`MARK` for a server of this home."""
    return f"{settings.home}#{server}"


def start(
    settings: LocalSettings, server: Server, launch: Launch, environ: Mapping[str, str]
) -> Record:
    """Start a server in its own session, with its output in a new log, and record it."""
    log = settings.log(server.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
    mark = mark_of(settings, server.name)
    environment = {**environ, **launch.environment, MARK: mark}
    # Appended to, so that it can be cut.
    with log.open("ab") as output:
        child = subprocess.Popen(
            launch.arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=settings.home,
            start_new_session=True,
            umask=PRIVATE_UMASK,
        )
    _children[child.pid] = child
    try:
        started = psutil.Process(child.pid).create_time()
    except psutil.NoSuchProcess:
        started = 0.0  # it has ended already, and no other process matches
    ports = tuple(port.number for port in server.ports)
    record = Record(server.name, child.pid, started, mark, ports, int(launch.stop_signal))
    write_whole(settings.run / f"{server.name}.json", json.dumps(asdict(record)))
    return record


def cut_log(log: Path) -> None:
    """Move what a running server has logged to the older log if it is more than MAX_LOG_BYTES.

    A line that is written at that moment may be lost.
    """
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)


def read_record(settings: LocalSettings, server: str) -> Record | None:
    """Return a server's record; None if it was never started, or was stopped."""
    try:
        fields = json.loads((settings.run / f"{server}.json").read_text(encoding="utf-8"))
        return Record(**{**fields, "ports": tuple(fields["ports"])})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def list_recorded(settings: LocalSettings) -> tuple[str, ...]:
    """Return the names of all servers with a record, also those of other settings."""
    return tuple(sorted(path.stem for path in settings.run.glob("*.json")))


def list_running(settings: LocalSettings, prefix: str = "") -> list[str]:
    """Return the names of the servers with this prefix that run."""
    names = (name for name in list_recorded(settings) if name.startswith(prefix))
    return [name for name in names if is_running(settings, name)]


def is_running(settings: LocalSettings, server: str) -> bool:
    """Whether a server's process runs."""
    return find_process(read_record(settings, server)) is not None


def remove_record(settings: LocalSettings, server: str) -> None:
    """Remove a server's record."""
    (settings.run / f"{server}.json").unlink(missing_ok=True)


def find_process(record: Record | None) -> psutil.Process | None:
    """Return the recorded process if it runs."""
    if record is None:
        return None
    child = _children.get(record.pid)
    if child is not None and child.poll() is not None:
        del _children[record.pid]
    try:
        process = psutil.Process(record.pid)
        environment = _environment(process)
        is_recorded = (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - record.started) < CLOCK_SECONDS
            # Empty while the system starts the program, and not readable where root has started
            # the server as another user: then the time has to suffice.
            and (not environment or environment.get(MARK) == record.mark)
        )
        return process if is_recorded else None
    except psutil.Error:  # ended, or another user's process
        return None


def _environment(process: psutil.Process) -> dict[str, str]:
    """Return a process's environment; empty where root may not read it (a container's root)."""
    try:
        return process.environ()
    except psutil.AccessDenied:
        if os.geteuid() != 0:
            raise
        return {}


def find_processes(settings: LocalSettings, server: str) -> list[psutil.Process]:
    """Return every running process with the mark of a server: itself and its children."""
    mark = mark_of(settings, server)
    leader = find_process(read_record(settings, server))
    processes = [] if leader is None else [leader]
    for process in psutil.process_iter():
        if leader is not None and process.pid == leader.pid:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                processes.append(process)
    return processes


def stop(settings: LocalSettings, server: str, seconds: float) -> bool:
    """Stop a server and its children, and remove its record; returns whether any process ran.

    The server gets its stop signal, and ends its own children; children of a server that has ended
    get TERM; what remains after `seconds` gets KILL. Returns when no process is left.
    """
    record = read_record(settings, server)
    leader = find_process(record)
    targets = [leader] if leader is not None else find_processes(settings, server)
    stopped = bool(targets)
    deadline = time.monotonic() + seconds
    _signal(targets, signal.Signals(record.stop_signal) if record and leader else signal.SIGTERM)
    _wait_gone(targets, deadline)
    rest = find_processes(settings, server)
    _signal(rest, signal.SIGTERM)
    _wait_gone(rest, min(deadline, time.monotonic() + 2))
    while rest := find_processes(settings, server):
        _signal(rest, signal.SIGKILL)
        _wait_gone(rest, time.monotonic() + 1)
    if leader is not None:
        find_process(read_record(settings, server))  # reaps it if it is a child
    remove_record(settings, server)
    return stopped


def kill(settings: LocalSettings, server: str) -> int:
    """Kill a server's process at once, as a crash would, and return its id. For fault tests.

    Raises LookupError when the server does not run. Its record is kept, so `status` shows it as
    dead.
    """
    record = read_record(settings, server)
    process = find_process(record)
    if process is None or record is None:
        raise LookupError(f"{server} does not run")
    process.kill()
    _wait_gone([process], time.monotonic() + 10)
    return record.pid


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a log, or none if it does not exist."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - lines * 1000))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def is_port_free(port: Port) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as trial:
        # As servers do: a closing connection of an earlier server does not block the port.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port.number))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return different ports on which no process listens now."""
    with contextlib.ExitStack() as stack:
        trials = [stack.enter_context(socket.socket()) for _ in range(count)]
        for trial in trials:
            trial.bind((HOST, 0))
        return [int(trial.getsockname()[1]) for trial in trials]


def wait_port_free(port: Port, seconds: float = 2.0) -> bool:
    """Wait until the port is free, up to `seconds`, or until a process listens on it.

    A killed process has ended shortly before the last of its threads releases its ports.
    """
    deadline = time.monotonic() + seconds
    while not is_port_free(port):
        if describe_listener(port) or time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS / 2)
    return True


def is_listening(port: Port) -> bool:
    """Whether something accepts connections on the port."""
    try:
        with socket.create_connection((HOST, port.number), timeout=1):
            return True
    except OSError:
        return False


def is_answering(url: str) -> bool:
    """Whether a GET of the address is answered with 200 within about a second."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == HTTPStatus.OK)
    except (OSError, HTTPException):
        return False


def describe_listener(port: Port) -> str:
    """Return a description of the process that listens on the port; empty if it is unknown."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return ""
    for connection in connections:
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port.number
            and connection.pid
        ):
            return _describe(connection.pid)
    return ""


def _describe(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        home, _, server = process.environ().get(MARK, "").partition("#")
        if server:
            return f"the {server} of the platform in {home} (process {pid})"
        return f"{process.name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        # psutil compares start times before it signals
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _wait_gone(processes: Iterable[psutil.Process], deadline: float) -> None:
    left = list(processes)
    while left:
        for child in list(_children.values()):
            if child.poll() is not None:
                _children.pop(child.pid, None)
        left = [process for process in left if _alive(process)]
        if not left or time.monotonic() >= deadline:
            return
        time.sleep(POLL_SECONDS / 2)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
