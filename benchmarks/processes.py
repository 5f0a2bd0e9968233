"""The processes of a system: starting them with a log, measuring and stopping them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.errors import BenchmarkError
from deploy.local.process import tail

_SAMPLE_SECONDS = 0.25
_NO_DIGITS = str.maketrans("", "", "0123456789")


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time, user and system, in seconds, and the highest resident memory in bytes."""

    seconds: float
    peak_bytes: int


class UsageMeter:
    """Measures the usage of process trees, including children that have ended.

    It takes four samples per second: the time that a process uses in the last quarter second before
    its end is not counted, which is negligible for processes that live as long as a run.
    """

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self._seconds: dict[tuple[int, float], float] = {}
        self._peak = 0
        self._before = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.sample()
        # A broker has used processor time before.
        self._before = sum(self._seconds.values())
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self._thread.start()

    def sample(self) -> Usage:
        """Return the usage so far."""
        with self._lock:
            resident = 0
            for process in _list_trees(self._roots):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    key = (process.pid, process.create_time())
                    self._seconds[key] = times.user + times.system
                    resident += process.memory_info().rss
            self._peak = max(self._peak, resident)
            return Usage(sum(self._seconds.values()) - self._before, self._peak)

    def stop(self) -> Usage:
        """Return the final usage."""
        self._stopped.set()
        self._thread.join()
        return self.sample()

    def threads(self) -> dict[str, float]:
        """Return the processor seconds of the running threads by name; Linux only.

        The system keeps 15 characters of a name. Digits are removed, so that the threads of a pool
        and the subtasks of an operator are added up.
        """
        seconds: dict[str, float] = {}
        for process in _list_trees(self._roots):
            with suppress(psutil.Error, OSError):
                for thread in process.threads():
                    name = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text().strip()
                    name = name.translate(_NO_DIGITS)
                    used = thread.user_time + thread.system_time
                    seconds[name] = seconds.get(name, 0.0) + used
        return seconds

    def _sample_until_stopped(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            self.sample()


def _list_trees(roots: Iterable[int]) -> list[psutil.Process]:
    processes = []
    for pid in roots:
        with suppress(psutil.Error):
            root = psutil.Process(pid)
            processes += [root, *root.children(recursive=True)]
    return processes


@dataclass(slots=True)
class Processes:
    """The processes of a system, with their log.

    ``extra_pids``: processes that the system uses but did not start here, such as a cluster's;
    ``check_more`` raises when they have failed, ``stop_more`` stops them.
    """

    started: list[subprocess.Popen[bytes]]
    log: Path
    extra_pids: list[int] = field(default_factory=list)
    check_more: Callable[[], None] = lambda: None
    stop_more: Callable[[], None] = lambda: None

    @property
    def pids(self) -> list[int]:
        """The roots of the system's process trees."""
        return [process.pid for process in self.started] + self.extra_pids

    def check(self) -> None:
        """Raise BenchmarkError with the end of the log if a process has ended."""
        for process in self.started:
            if process.poll() is not None:
                lines = "\n".join(tail(self.log, 20))
                raise BenchmarkError(
                    f"process {process.pid} ended with {process.returncode} before its output was"
                    f" complete. The end of {self.log}:\n{lines}"
                )
        self.check_more()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Stop the processes and their children; returns when they have ended."""
        trees = _list_trees(process.pid for process in self.started)
        for process in trees:
            with suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(trees, timeout=timeout_seconds)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        for started in self.started:
            started.wait()
        self.stop_more()


def start(
    commands: Sequence[Sequence[str]],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Processes:
    """Start commands in parallel, with one log for all."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        processes = [
            subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                start_new_session=True,
            )
            for command in commands
        ]
    return Processes(processes, log)
