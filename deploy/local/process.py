"""Server processes: started apart from us, known again later, stopped with their children.

What is known of a server is kept in `run/<server>.json`. A process id alone is no proof, since ids
are used again: a process is ours only if it started at the recorded moment and carries our mark, a
variable in its environment. Its children inherit the mark, so they are found also when the server
itself is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
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

from connectors.files import write_whole
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
    """What asks it to end."""


@dataclass(frozen=True, slots=True)
class Server:
    """One process of the platform."""

    name: str
    """Its name in `status` and `logs`, such as kafka or flink-taskmanager-1."""
    part: str
    """The part that it belongs to: what `up` and `down` take."""
    ports: tuple[Port, ...]
    """The ports that it must find free."""
    address: str
    """Where people or clients reach it."""
    prepare: Callable[[], Launch]
    """Writes its configuration and says how to start it. Called right before the start; may
    block."""
    healthy: Callable[[], bool]
    """Whether it answers now. Blocks for a second or so at most, never raises."""


@dataclass(frozen=True, slots=True)
class Record:
    """What `run/<server>.json` says of a started server."""

    server: str
    pid: int
    started: float
    """The start of the process as the system reports it, in seconds since the epoch."""
    mark: str
    ports: tuple[int, ...]
    stop_signal: int = signal.SIGTERM


CLOCK_SECONDS = 2.0
"""By how much the start of one process may differ between two looks: the system's clock gets
adjusted."""

# The servers that this process itself has started: they must be waited for, else they stay as
# zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


def mark(settings: LocalSettings, server: str) -> str:
    """The value of :data:`MARK` for a server of this home."""
    return f"{settings.home}#{server}"


def start(
    settings: LocalSettings, server: Server, launch: Launch, environ: Mapping[str, str]
) -> Record:
    """Starts a server in a session of its own, its output going to a new log, and records it."""
    log = settings.log(server.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
    own_mark = mark(settings, server.name)
    environment = {**environ, **launch.environment, MARK: own_mark}
    with log.open("wb") as output:
        child = subprocess.Popen(
            launch.arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=settings.home,
            start_new_session=True,
        )
    _children[child.pid] = child
    try:
        started = psutil.Process(child.pid).create_time()
    except psutil.NoSuchProcess:
        started = 0.0  # it is gone already; nothing will be taken for it
    ports = tuple(port.number for port in server.ports)
    record = Record(server.name, child.pid, started, own_mark, ports, int(launch.stop_signal))
    write_whole(settings.run / f"{server.name}.json", json.dumps(asdict(record)))
    return record


def recorded(settings: LocalSettings, server: str) -> Record | None:
    """What is recorded of a server; None if it was never started or was stopped in order."""
    try:
        fields = json.loads((settings.run / f"{server}.json").read_text(encoding="utf-8"))
        return Record(**{**fields, "ports": tuple(fields["ports"])})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def all_recorded(settings: LocalSettings) -> tuple[str, ...]:
    """The names of all servers with a record, whatever the settings say today."""
    return tuple(sorted(path.stem for path in settings.run.glob("*.json")))


def forget(settings: LocalSettings, server: str) -> None:
    """Removes a server's record."""
    (settings.run / f"{server}.json").unlink(missing_ok=True)


def running(record: Record | None) -> psutil.Process | None:
    """The recorded process, if it runs and is the one that was recorded."""
    if record is None:
        return None
    child = _children.get(record.pid)
    if child is not None and child.poll() is not None:
        del _children[record.pid]
    try:
        process = psutil.Process(record.pid)
        environment = _environment(process)
        ours = (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - record.started) < CLOCK_SECONDS
            # Empty for a moment while the system starts the program, and not shown where the
            # server runs as another user than root, who has started it: the time has to do.
            and (not environment or environment.get(MARK) == record.mark)
        )
        return process if ours else None
    except psutil.Error:  # gone, or of another user, hence not ours
        return None


def _environment(process: psutil.Process) -> dict[str, str]:
    """The environment of a process; empty where root may not see it (a container's root)."""
    try:
        return process.environ()
    except psutil.AccessDenied:
        if os.geteuid() != 0:
            raise
        return {}


def processes_of(settings: LocalSettings, server: str) -> list[psutil.Process]:
    """Every running process with the mark of a server: itself and what it has started."""
    wanted = mark(settings, server)
    leader = running(recorded(settings, server))
    found = [] if leader is None else [leader]
    for process in psutil.process_iter():
        if leader is not None and process.pid == leader.pid:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == wanted:
                found.append(process)
    return found


def stop(settings: LocalSettings, server: str, seconds: float) -> bool:
    """Stops a server and its children and forgets it; whether there was anything to stop.

    Its stop signal to the server, which ends its own children; TERM to children of a server that
    is gone; KILL to whatever is left after `seconds`. Returns when no process is left.
    """
    record = recorded(settings, server)
    leader = running(record)
    targets = [leader] if leader is not None else processes_of(settings, server)
    stopped = bool(targets)
    deadline = time.monotonic() + seconds
    _signal(targets, signal.Signals(record.stop_signal) if record and leader else signal.SIGTERM)
    _wait_gone(targets, deadline)
    rest = processes_of(settings, server)
    _signal(rest, signal.SIGTERM)
    _wait_gone(rest, min(deadline, time.monotonic() + 2))
    while rest := processes_of(settings, server):
        _signal(rest, signal.SIGKILL)
        _wait_gone(rest, time.monotonic() + 1)
    if leader is not None:
        running(recorded(settings, server))  # reaps it when it was our own child
    forget(settings, server)
    return stopped


def kill(settings: LocalSettings, server: str) -> int:
    """Kills a server's process at once, as a crash would, and returns its id. For fault tests.

    Raises LookupError when the server does not run. Its record stays: `status` then names it as
    dead.
    """
    record = recorded(settings, server)
    process = running(record)
    if process is None or record is None:
        raise LookupError(f"{server} does not run")
    process.kill()
    _wait_gone([process], time.monotonic() + 10)
    return record.pid


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log; empty when there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - lines * 1000))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def port_free(port: Port) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as trial:
        # As servers do: a connection of an earlier server that is still closing is no hindrance.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port.number))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        trials = [stack.enter_context(socket.socket()) for _ in range(count)]
        for trial in trials:
            trial.bind((HOST, 0))
        return [int(trial.getsockname()[1]) for trial in trials]


def port_released(port: Port, seconds: float = 2.0) -> bool:
    """Whether the port is free, or becomes so within `seconds` while no process is seen to have it.

    A killed process counts as gone a moment before the last of its threads lets go of its ports.
    """
    deadline = time.monotonic() + seconds
    while not port_free(port):
        if listener(port) or time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS / 2)
    return True


def listening(port: Port) -> bool:
    """Whether something accepts connections on the port."""
    try:
        with socket.create_connection((HOST, port.number), timeout=1):
            return True
    except OSError:
        return False


def answers(url: str) -> bool:
    """Whether a GET of the address is answered with 200 within a second or so."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == HTTPStatus.OK)
    except (OSError, HTTPException):
        return False


def listener(port: Port) -> str:
    """Who listens on the port, in words; empty when the system does not tell."""
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
