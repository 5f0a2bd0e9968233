"""Processes of a system: started with a log, accounted for, stopped as whole trees."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.errors import BenchmarkError

_SAMPLE_SECONDS = 0.25
_NO_DIGITS = str.maketrans("", "", "0123456789")


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor seconds, user and system, and the largest resident memory seen, in bytes."""

    seconds: float
    peak_bytes: int


class CpuAccount:
    """Adds up the processor time of process trees, also of children that have ended.

    Sampled four times a second: what a process used in the last quarter second before its end is
    missed, which for processes that live as long as a run is nothing.
    """

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = [process for pid in roots if (process := _process(pid)) is not None]
        self._used: dict[tuple[int, float], float] = {}
        self._peak = 0
        self._before = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.sample()
        # What was used before counts from here: a broker has a past.
        self._before = sum(self._used.values())
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self._thread.start()

    def sample(self) -> Cpu:
        """What was used so far."""
        with self._lock:
            resident = 0
            for process in self._tree():
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    key = (process.pid, process.create_time())
                    self._used[key] = times.user + times.system
                    resident += process.memory_info().rss
            self._peak = max(self._peak, resident)
            return Cpu(sum(self._used.values()) - self._before, self._peak)

    def stop(self) -> Cpu:
        """The final account."""
        self._stopped.set()
        self._thread.join()
        return self.sample()

    def threads(self) -> dict[str, float]:
        """Processor seconds of the threads that live now, added up by name; Linux only.

        The system keeps 15 characters of a name; digits are left out, so that the threads of a
        pool, and an operator's two subtasks, count as one.
        """
        used: dict[str, float] = {}
        for process in self._tree():
            with suppress(psutil.Error, OSError):
                for thread in process.threads():
                    name = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text().strip()
                    name = name.translate(_NO_DIGITS)
                    used[name] = used.get(name, 0.0) + thread.user_time + thread.system_time
        return used

    def _tree(self) -> list[psutil.Process]:
        found = []
        for root in self._roots:
            with suppress(psutil.Error):
                found += [root, *root.children(recursive=True)]
        return found

    def _sample_until_stopped(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            self.sample()


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


@dataclass(slots=True)
class Started:
    """The processes of one system, with the file that they write to.

    ``extra_pids``: processes that somebody else has started for it, such as a cluster's;
    ``check_more`` raises when these have failed, ``stop_more`` ends them.
    """

    processes: list[subprocess.Popen[bytes]]
    log: Path
    extra_pids: list[int] = field(default_factory=list)
    check_more: Callable[[], None] = lambda: None
    stop_more: Callable[[], None] = lambda: None

    @property
    def pids(self) -> list[int]:
        """Roots of the trees that the system's processor time is counted of."""
        return [process.pid for process in self.processes] + self.extra_pids

    def check(self) -> None:
        """Raises BenchmarkError with the end of the log when one of them has ended."""
        for process in self.processes:
            if process.poll() is not None:
                raise BenchmarkError(
                    f"process {process.pid} ended with {process.returncode} before its output was"
                    f" complete. The end of {self.log}:\n{last_lines(self.log)}"
                )
        self.check_more()

    def stop(self, patience_seconds: float = 10.0) -> None:
        """End all of them and their children; returns when they are gone."""
        trees = [tree for process in self.processes for tree in _whole_tree(process.pid)]
        for process in trees:
            with suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(trees, timeout=patience_seconds)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        for started in self.processes:
            started.wait()
        self.stop_more()


def _whole_tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def start(
    commands: Sequence[Sequence[str]],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Started:
    """Start commands side by side, all of them writing to one log."""
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
    return Started(processes, log)


def last_lines(log: Path, count: int = 20) -> str:
    """The end of a log."""
    if not log.exists():
        return "(it was not written)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
