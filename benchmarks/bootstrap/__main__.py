"""``python -m benchmarks.bootstrap``: the bootstrap beside DuckDB, on the same data products.

Both read the same Parquet files from local folders, apply the same rules, join, and write CSV with
headers, rejected rows and counts; both are told the same about memory and have two threads. What
they write is compared: number of rows and two sums over the hashes of all rows, by dataset. The
method is in docs/benchmarks/method.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from batch.bootstrap.settings import Window
from benchmarks.bootstrap.products import UNTIL_MS, Size, make
from benchmarks.errors import BenchmarkError, SystemUnavailable
from benchmarks.processes import start
from deploy.local import bootstrap
from deploy.local.flink_cluster import java_options
from deploy.local.settings import LocalSettings
from schemas.errors import TunemeshError

DUCKDB = Path(__file__).parents[1] / "duckdb"
LOCK = DUCKDB / "requirements.lock"

HEAP_MB = 512
DIRECT_MB = 256
MANAGED_MB = 768
MEMORY_MB = HEAP_MB + DIRECT_MB + MANAGED_MB
"""What Flink may use in all: Java's heap, network buffers, and its managed memory. DuckDB gets the
sum as its memory_limit. Code, stacks and the Python client come on top, for both."""

SAMPLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one system: wall-clock seconds of its whole process, and its highest memory."""

    system: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: int

    @property
    def rows_per_s(self) -> float:
        """Rows of all products, from the start of the process to its end."""
        return self.rows / self.seconds


def ours(locations: Mapping[str, Path], size: Size, out: Path, settings: LocalSettings) -> Run:
    """`python -m batch.bootstrap` in the in-process minicluster."""
    request = bootstrap.Request(
        out.as_uri(),
        "bench",
        {name: path.as_uri() for name, path in locations.items()},
        Window(until=UNTIL_MS),
    )
    out.mkdir(parents=True)
    properties = bootstrap.write_properties(settings, request)
    environment = {
        **bootstrap.process_environment(settings, os.environ),
        "FLINK_ENV_JAVA_OPTS": " ".join(
            (
                f"-Xmx{HEAP_MB}m -XX:MaxDirectMemorySize={DIRECT_MB + 128}m",
                "-XX:+IgnoreUnrecognizedVMOptions",
                bootstrap.JAVA_OPTIONS,
                *java_options(),
            )
        ),
    }
    command = [sys.executable, "-m", "batch.bootstrap", "--properties", str(properties)]
    return _measured("ours", size.rows, command, out / "output.txt", environment)


def duckdb(python: Path, data: Path, size: Size, out: Path) -> Run:
    """benchmarks/duckdb/bootstrap.py in its own virtual environment."""
    out.mkdir(parents=True)
    script = str(DUCKDB / "bootstrap.py")
    command = [str(python), script, "run", str(data), str(out), f"{MEMORY_MB}MB"]
    return _measured("duckdb", size.rows, command, out / "output.txt", {})


def _measured(
    system: str, rows: int, command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Run:
    began = time.perf_counter()
    started = start([command], log, environment=environment)
    (process,) = started.processes
    peak = 0
    cpu: dict[int, float] = {}
    try:
        while process.poll() is None:
            peak = max(peak, _sample(process.pid, cpu))
            time.sleep(SAMPLE_SECONDS)
    finally:
        started.stop()
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise BenchmarkError(f"{system} ended with {process.returncode}; its output: {log}")
    return Run(system, rows, seconds, sum(cpu.values()), peak // (1 << 20))


def _sample(pid: int, cpu: dict[int, float]) -> int:
    """Resident bytes of a process and its children; their processor time goes into ``cpu``."""
    resident = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            times = process.cpu_times()
            cpu[process.pid] = times.user + times.system
            resident += process.memory_info().rss
    except psutil.Error:
        pass
    return resident


def prepare(work: Path) -> Path:
    """The Python of DuckDB's virtual environment, made again when its lock has changed."""
    python = work / "duckdb-venv" / "bin" / "python"
    mark = python.parents[1] / "installed"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not (mark.exists() and mark.read_text() == digest):
        venv.create(python.parents[1], clear=True, with_pip=True, symlinks=True)
        done = subprocess.run(
            [
                *(str(python), "-m", "pip", "install", "--quiet", "--require-hashes"),
                *("--only-binary", ":all:", "-r", str(LOCK)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemUnavailable(f"DuckDB cannot be installed: {done.stderr.strip()}")
        mark.write_text(digest)
    return python


def same(python: Path, one: Path, other: Path) -> bool:
    """Whether two outputs have the same rows."""
    done = subprocess.run(
        [str(python), str(DUCKDB / "bootstrap.py"), "compare", str(one), str(other)],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout.strip() or done.stderr.strip(), file=sys.stderr)
    return done.returncode == 0


def measure(interactions: int, work: Path, settings: LocalSettings) -> dict[str, Any]:
    """Both systems at one size, and whether their outputs are the same."""
    size = Size(interactions)
    print(f"products of {size.rows} rows ...", flush=True)
    locations = make(work / "products", size)
    python = prepare(work)
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    other = duckdb(python, locations["users"].parent, size, out / "duckdb")
    print(f"  duckdb: {other.seconds:.1f} s, {other.peak_mb} MB", flush=True)
    own = ours(locations, size, out / "ours", settings)
    print(f"  ours: {own.seconds:.1f} s, {own.peak_mb} MB", flush=True)
    if not same(python, out / "ours" / "bench", out / "duckdb"):
        raise BenchmarkError(f"the rows are not the same; see {out}")
    result = {
        "interactions": interactions,
        "rows": size.rows,
        "rows_per_s": round(own.rows_per_s),
        "ratio_duckdb": round(own.rows_per_s / other.rows_per_s, 3),
        "peak_mb": own.peak_mb,
        "equal": True,
        "runs": [
            {
                "system": run.system,
                "seconds": round(run.seconds, 2),
                "cpu_seconds": round(run.cpu_seconds, 1),
                "peak_mb": run.peak_mb,
            }
            for run in (own, other)
        ],
    }
    shutil.rmtree(out, ignore_errors=True)
    return result


def report(sizes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report: the largest size's figures, and those of all."""
    largest = max(sizes, key=lambda size: size["rows"])
    return {
        **{key: largest[key] for key in ("rows", "rows_per_s", "ratio_duckdb", "peak_mb")},
        "memory_limit_mb": MEMORY_MB,
        "products": "local files, zstd Parquet",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "sizes": list(sizes),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the report, print it."""
    parser = argparse.ArgumentParser(prog="benchmarks.bootstrap")
    parser.add_argument("--interactions", type=int, action="append", help="a size; repeatable")
    parser.add_argument("--work", type=Path, help="where products and outputs are")
    options = parser.parse_args(arguments)
    settings = LocalSettings.from_environment(os.environ)
    work = options.work or settings.home / "bench-bootstrap"
    try:
        sizes = [
            measure(interactions, work.absolute(), settings)
            for interactions in options.interactions or (1_000_000, 10_000_000)
        ]
    except TunemeshError as error:
        print(f"tunemesh: {error}", file=sys.stderr)
        return error.exit_code
    made = report(sizes)
    file = settings.home / "reports" / "bench-bootstrap.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(made, indent=2))
    print(json.dumps(made, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
