"""Bytewax in its own virtual environment: two processes, recovery on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks import environments
from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Processes, start
from benchmarks.systems import CHECKPOINT_SECONDS, COMPRESSION, LINGER_MS, PARALLELISM, System, Task
from benchmarks.topics import Topics
from deploy.local.process import free_ports

FLOW = Path(__file__).parents[1] / "bytewax"
LOCK = FLOW / "requirements.lock"


def bytewax(work: Path) -> System:
    """The flow of :mod:`benchmarks.bytewax.flow`; ``work`` is the benchmark's folder."""
    folder = work / "bytewax-venv"

    def start_processes(task: Task) -> Processes:
        """Start two processes with each other's addresses."""
        recovery, warm = task.folder / "recovery", task.folder / "warm"
        python = str(environments.interpreter(folder))
        recovery.mkdir()
        warm.mkdir()
        result = subprocess.run(
            [python, "-m", "bytewax.recovery", str(recovery), str(PARALLELISM)],
            check=False,
        )
        if result.returncode != 0:
            raise SystemUnavailable("bytewax.recovery could not create its partitions")
        addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(PARALLELISM))
        commands = [
            [
                *(python, "-m", "bytewax.run", "flow:build()"),
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

    def is_warm(task: Task, topics: Topics) -> bool:
        """Each process writes the number of dimension records in its joins to a file."""
        count = sum(int(p.read_text()) for p in (task.folder / "warm").glob("*.held"))
        return count >= task.dimensions

    return System(
        name="bytewax",
        pair="rocksdb",
        description=f"Bytewax 0.21.1, {PARALLELISM} processes, recovery on, snapshots every"
        f" {CHECKPOINT_SECONDS} s, Avro to Kafka without a flush before a snapshot",
        start=start_processes,
        prepare=lambda: environments.prepare(folder, LOCK, "Bytewax"),
        is_warm=is_warm,
    )
