"""The systems by name, and the order of a full run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.systems import System
from benchmarks.systems.bytewax import bytewax
from benchmarks.systems.cluster import Cluster
from benchmarks.systems.java import JavaTools, java_reference
from benchmarks.systems.naive import naive_pyflink
from benchmarks.systems.ours import our_enrichment

# The naive job processes 2,000 (process mode) to 10,000 events per second: a fraction suffices.
_NAIVE_PROCESS_SHARE = 0.02
_NAIVE_THREAD_SHARE = 0.15

OURS = "ours-rocksdb-thread"
"""The product as on Managed Flink; the ratios of the report use it."""

FULL_RUN = (
    "java-rocksdb",
    "ours-rocksdb-thread",
    "java-rocksdb",
    "ours-rocksdb-thread",
    "java-rocksdb",
    "ours-rocksdb-process",
    "bytewax",
    "ours-hashmap-thread",
    "java-hashmap",
    "naive-thread",
    "naive-process",
)
"""The baseline runs before and after ours: see :func:`measure.ratios_to_neighbours`."""

QUICK_RUN = (
    "java-rocksdb",
    "ours-rocksdb-thread",
    "java-rocksdb",
    "bytewax",
    "naive-thread",
)
"""The runs that all three ratios need."""


def catalog(work: Path) -> Mapping[str, System]:
    """Return every system by name; ``work`` is the benchmark's folder."""
    tools, cluster = JavaTools(work), Cluster(work)
    backends = ("rocksdb", "hashmap")
    systems = (
        *(java_reference(tools, cluster, backend) for backend in backends),
        *(our_enrichment(cluster, b, mode) for b in backends for mode in ("thread", "process")),
        naive_pyflink(tools, cluster, "thread", _NAIVE_THREAD_SHARE),
        naive_pyflink(tools, cluster, "process", _NAIVE_PROCESS_SHARE),
        bytewax(work),
    )
    return {system.name: system for system in systems}


def select(names: Sequence[str], systems: Mapping[str, System]) -> list[System]:
    """Return the named systems in this order; raises BenchmarkError for an unknown name."""
    for name in names:
        if name not in systems:
            raise BenchmarkError(f"no system {name!r}. Systems: {', '.join(sorted(systems))}.")
    return [systems[name] for name in names]
