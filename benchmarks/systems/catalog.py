"""Which systems there are, by name, and in which order a full run takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.systems import System
from benchmarks.systems.bytewax import Bytewax
from benchmarks.systems.java import JavaReference, JavaTools
from benchmarks.systems.naive import NaivePyFlink
from benchmarks.systems.ours import OurEnrichment

# Python process mode does 2,000 events a second and less: a twentieth of the events shows it.
_NAIVE_PROCESS_SHARE = 0.05
_NAIVE_THREAD_SHARE = 0.25

OURS = "ours-rocksdb-thread"
"""As on Managed Flink: what the ratios of the report are made of."""

FULL_RUN = (
    "java-rocksdb",
    "ours-rocksdb-thread",
    "java-rocksdb",
    "ours-rocksdb-process",
    "java-rocksdb",
    "java-hashmap",
    "ours-hashmap-thread",
    "java-hashmap",
    "java-rocksdb-discard",
    "bytewax",
    "naive-thread",
    "naive-process",
)
"""The yardstick before and after each of ours, for :func:`measure.ratios_to_neighbours`."""


def catalog(work: Path) -> Mapping[str, System]:
    """Every system, by name; ``work`` is the bench folder."""
    tools = JavaTools(work)
    systems: list[System] = [
        JavaReference(tools, backend, discards)
        for backend in ("rocksdb", "hashmap")
        for discards in (False, True)
    ]
    systems += [
        OurEnrichment(backend, mode)
        for backend in ("rocksdb", "hashmap")
        for mode in ("thread", "process")
    ]
    systems += [
        NaivePyFlink(tools, "thread", _NAIVE_THREAD_SHARE),
        NaivePyFlink(tools, "process", _NAIVE_PROCESS_SHARE),
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


def java_system(ours: OurEnrichment) -> str:
    """The yardstick of one of ours."""
    return f"java-{ours.backend}"
