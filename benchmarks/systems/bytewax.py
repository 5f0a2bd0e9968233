"""Bytewax in a virtual environment of its own: two processes, recovery on."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Started, start
from benchmarks.systems import CHECKPOINT_SECONDS, COMPRESSION, LINGER_MS, PARALLELISM, Task
from benchmarks.topics import Topics

FLOW = Path(__file__).parents[1] / "bytewax"
LOCK = FLOW / "requirements.lock"


@dataclass(frozen=True, slots=True)
class Bytewax:
    """The flow of :mod:`benchmarks.bytewax.flow`; ``work`` is the bench folder."""

    work: Path

    name = "bytewax"
    pair = "rocksdb"
    what = (
        f"Bytewax 0.21.1, {PARALLELISM} processes, recovery on, snapshots every"
        f" {CHECKPOINT_SECONDS} s, Avro to Kafka without a flush before a snapshot"
    )
    events_share = 1.0
    writes_origins = True
    gated = True
    output = None

    @property
    def _python(self) -> Path:
        return self.work / "bytewax-venv" / "bin" / "python"

    def prepare(self) -> None:
        """Make the virtual environment, again when requirements.lock has changed."""
        mark = self._python.parents[1] / "installed"
        digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
        if mark.exists() and mark.read_text() == digest:
            return
        venv.create(self._python.parents[1], clear=True, with_pip=True, symlinks=True)
        done = subprocess.run(
            [
                *(str(self._python), "-m", "pip", "install", "--quiet", "--require-hashes"),
                *("--only-binary", ":all:", "-r", str(LOCK)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemUnavailable(
                f"Bytewax cannot be installed for Python {sys.version_info.major}."
                f"{sys.version_info.minor}: {done.stderr.strip()}"
            )
        mark.write_text(digest)

    def start(self, task: Task) -> Started:
        """Two processes that know each other's address."""
        recovery, warm = task.folder / "recovery", task.folder / "warm"
        recovery.mkdir()
        warm.mkdir()
        made = subprocess.run(
            [str(self._python), "-m", "bytewax.recovery", str(recovery), str(PARALLELISM)],
            check=False,
        )
        if made.returncode != 0:
            raise SystemUnavailable("bytewax.recovery did not make its partitions")
        addresses = ";".join(f"127.0.0.1:{port}" for port in _free_ports(PARALLELISM))
        commands = [
            [
                *(str(self._python), "-m", "bytewax.run", "flow:build()"),
                *("-r", str(recovery), "-s", str(CHECKPOINT_SECONDS), "-b", "0"),
                *("-i", str(number), "-a", addresses),
            ]
            for number in range(PARALLELISM)
        ]
        environment = {
            "BENCH_BOOTSTRAP": task.bootstrap,
            "BENCH_SCHEMAS": str(task.schemas),
            "BENCH_HEADER": task.header.hex(),
            "BENCH_OUT": task.out,
            "BENCH_GATE": str(task.gate),
            "BENCH_WARM": str(warm),
            "BENCH_LINGER_MS": str(LINGER_MS),
            "BENCH_COMPRESSION": COMPRESSION,
        }
        return start(commands, task.log, environment=environment, directory=FLOW)

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Each process writes down how many dimension records its joins have taken in."""
        held = sum(int(p.read_text()) for p in (task.folder / "warm").glob("*.held"))
        return held >= task.dimensions


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
