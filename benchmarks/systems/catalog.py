"""Which systems there are, by name, and in which order a full run takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.systems import System
from benchmarks.systems.bytewax import Bytewax
from benchmarks.systems.cluster import Cluster
from benchmarks.systems.java import JavaReference, JavaTools
from benchmarks.systems.naive import NaivePyFlink
from benchmarks.systems.ours import OurEnrichment

# Naive Python does 2,000 (process mode) to 10,000 events a second: a share of them shows it.
_NAIVE_PROCESS_SHARE = 0.02
_NAIVE_THREAD_SHARE = 0.15

OURS = "ours-rocksdb-thread"
"""As on Managed Flink: what the ratios of the report are made of."""

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
"""The yardstick before and after ours: see :func:`measure.ratios_to_neighbours`."""

QUICK_RUN = (
    "java-rocksdb",
    "ours-rocksdb-thread",
    "java-rocksdb",
    "bytewax",
    "naive-thread",
)
"""The least that gives all three ratios."""


def catalog(work: Path) -> Mapping[str, System]:
    """Every system, by name; ``work`` is the bench folder."""
    tools, cluster = JavaTools(work), Cluster(work)
    systems: list[System] = [
        JavaReference(tools, cluster, backend) for backend in ("rocksdb", "hashmap")
    ]
    systems += [
        OurEnrichment(cluster, backend, mode)
        for backend in ("rocksdb", "hashmap")
        for mode in ("thread", "process")
    ]
    systems += [
        NaivePyFlink(tools, cluster, "thread", _NAIVE_THREAD_SHARE),
        NaivePyFlink(tools, cluster, "process", _NAIVE_PROCESS_SHARE),
        Bytewax(work),
    ]
    return {system.name: system for system in systems}


def chosen(names: Sequence[str], systems: Mapping[str, System]) -> list[System]:
    """The systems of that order; raises BenchmarkError for a name that there is not."""
    for name in names:
        if name not in systems:
            raise BenchmarkError(
                f"there is no system {name!r}; there are: {', '.join(sorted(systems))}"
            )
    return [systems[name] for name in names]
