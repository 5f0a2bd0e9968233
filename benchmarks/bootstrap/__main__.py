"""Compares the bootstrap with DuckDB on the same data products.

Both read the same Parquet files from local folders, apply the same rules, join, and write CSV with
headers, rejected rows and counts, with the same memory limit and two threads. The outputs must be
equal: for each dataset the number of rows and two sums over the hashes of all rows. The report is
bench-bootstrap.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.bootstrap.settings import Window
from benchmarks import environments
from benchmarks.bootstrap.products import UNTIL_MS, Size, create_products
from benchmarks.command import run
from benchmarks.errors import BenchmarkError
from benchmarks.processes import UsageMeter, start
from connectors.files import write_report
from deploy.local import bootstrap
from deploy.local.flink_cluster import java_options
from deploy.local.settings import LocalSettings

DUCKDB = Path(__file__).parents[1] / "duckdb"

HEAP_MB = 512
DIRECT_MB = 256
MANAGED_MB = 768
MEMORY_MB = HEAP_MB + DIRECT_MB + MANAGED_MB
"""The limit of Flink (Java's heap, network buffers and managed memory), and the memory_limit of
DuckDB. Code, stacks and the Python client are not included."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a system: seconds of its whole process, and its highest memory."""

    system: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: int

    @property
    def rows_per_s(self) -> float:
        """Rows of all products, from the start of the process to its end."""
        return self.rows / self.seconds


def run_bootstrap(
    locations: Mapping[str, Path], size: Size, out: Path, settings: LocalSettings
) -> Run:
    """Run `python -m batch.bootstrap` in the in-process minicluster."""
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
    return _measure("ours", size.rows, command, out / "output.txt", environment)


def run_duckdb(python: Path, data: Path, size: Size, out: Path) -> Run:
    """Run benchmarks/duckdb/bootstrap.py in its own virtual environment."""
    out.mkdir(parents=True)
    script = str(DUCKDB / "bootstrap.py")
    command = [str(python), script, "run", str(data), str(out), f"{MEMORY_MB}MB"]
    return _measure("duckdb", size.rows, command, out / "output.txt", {})


def _measure(
    system: str, rows: int, command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Run:
    started = time.perf_counter()
    processes = start([command], log, environment=environment)
    meter = UsageMeter(processes.pids)
    (process,) = processes.started
    try:
        process.wait()
        seconds = time.perf_counter() - started
    finally:
        usage = meter.stop()
        processes.stop()
    if process.returncode != 0:
        raise BenchmarkError(f"{system} ended with {process.returncode}; its output: {log}")
    return Run(system, rows, seconds, usage.seconds, usage.peak_bytes // (1 << 20))


def has_same_rows(python: Path, one: Path, other: Path) -> bool:
    """Whether two outputs have the same rows."""
    result = subprocess.run(
        [str(python), str(DUCKDB / "bootstrap.py"), "compare", str(one), str(other)],
        capture_output=True,
        text=True,
        check=False,
    )
    print(result.stdout.strip() or result.stderr.strip(), file=sys.stderr)
    return result.returncode == 0


def measure(interactions: int, work: Path, settings: LocalSettings) -> dict[str, Any]:
    """Run both systems at one size; raises BenchmarkError if their outputs differ."""
    size = Size(interactions)
    print(f"products of {size.rows} rows ...", flush=True)
    locations = create_products(work / "products", size)
    python = environments.prepare(work / "duckdb-venv", DUCKDB / "requirements.lock", "DuckDB")
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    duckdb = run_duckdb(python, locations["users"].parent, size, out / "duckdb")
    print(f"  duckdb: {duckdb.seconds:.1f} s, {duckdb.peak_mb} MB", flush=True)
    ours = run_bootstrap(locations, size, out / "ours", settings)
    print(f"  ours: {ours.seconds:.1f} s, {ours.peak_mb} MB", flush=True)
    if not has_same_rows(python, out / "ours" / "bench", out / "duckdb"):
        raise BenchmarkError(f"the outputs differ; see {out}")
    shutil.rmtree(out, ignore_errors=True)
    return {
        "interactions": interactions,
        "rows": size.rows,
        "rows_per_s": round(ours.rows_per_s),
        "ratio_duckdb": round(ours.rows_per_s / duckdb.rows_per_s, 3),
        "peak_mb": ours.peak_mb,
        "equal": True,
        "runs": [
            {
                "system": run.system,
                "seconds": round(run.seconds, 2),
                "cpu_seconds": round(run.cpu_seconds, 1),
                "peak_mb": run.peak_mb,
            }
            for run in (ours, duckdb)
        ],
    }


def report(sizes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the report: the results of the largest size, and of all sizes."""
    largest = max(sizes, key=lambda size: size["rows"])
    return {
        **{key: largest[key] for key in ("rows", "rows_per_s", "ratio_duckdb", "peak_mb")},
        "memory_limit_mb": MEMORY_MB,
        "products": "local files, zstd Parquet",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "sizes": list(sizes),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the report and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bootstrap", description=__doc__)
    parser.add_argument(
        "--interactions",
        type=int,
        action="append",
        help="a size; repeatable, default 1000000 and 10000000",
    )
    parser.add_argument("--work", type=Path, help="folder for products and outputs")
    options = parser.parse_args(arguments)
    settings = LocalSettings.from_environment(os.environ)
    work = options.work or settings.home / "bench-bootstrap"
    result = report(
        [
            measure(interactions, work.absolute(), settings)
            for interactions in options.interactions or (1_000_000, 10_000_000)
        ]
    )
    write_report(settings.reports / "bench-bootstrap.json", result)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    run("bench-bootstrap", main)
