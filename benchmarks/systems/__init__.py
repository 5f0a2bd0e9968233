"""The systems that are compared: each one starts its processes and reports when it is warm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Processes
from benchmarks.publish import DIMENSION_TOPICS
from benchmarks.topics import Topics

CHECKPOINT_SECONDS = 10
PARALLELISM = 2
LINGER_MS = 5
BATCH_BYTES = 262_144
COMPRESSION = "lz4"
"""The settings of the product's sink (connectors/kafka/tables.py), which all systems use."""


TASK_FOLDER = "task"
"""Of a run's files, below the benchmark's folder. It is deleted before each run, so it is none that
the platform uses there: a service whose record is deleted is not stopped."""


@dataclass(frozen=True, slots=True)
class Task:
    """The parameters of a run.

    ``out``: the output topic. ``gate``: a file that is created when the system is warm; a gated
    system reads interactions after that. ``folder``: an empty folder for its state. ``log``: the
    output of its processes. ``schemas``: a folder with ``<contract>.avsc`` of each newest version.
    ``header``: the registry header of its records, 18 bytes. ``group``: its consumer group.
    ``dimensions``: the number of records of the dimension topics. ``has_registry``: whether the
    schema registry runs.
    """

    bootstrap: str
    out: str
    gate: Path
    folder: Path
    log: Path
    schemas: Path
    header: bytes
    group: str
    dimensions: int
    has_registry: bool

    @property
    def arguments(self) -> list[str]:
        """The arguments of the Flink jobs that the product is compared with."""
        return [
            *("--bootstrap", self.bootstrap, "--group", self.group),
            *("--gate", str(self.gate), "--schemas", str(self.schemas)),
            *("--header", self.header.hex(), "--out", self.out),
            *("--linger-ms", str(LINGER_MS), "--batch-bytes", str(BATCH_BYTES)),
            *("--compression", COMPRESSION),
        ]


def has_read_dimensions(task: Task, topics: Topics) -> bool:
    """Whether a Flink job has: a checkpoint that has passed the joins commits the offsets."""
    return topics.has_read(task.group, DIMENSION_TOPICS)


@dataclass(frozen=True, slots=True)
class System:
    """A system in one configuration.

    ``name``: in the report, such as ``java-rocksdb``. ``pair``: the state backend; only runs of the
    same pair are compared. ``description``: what runs, in one line of the report. ``start`` starts
    its processes. ``prepare`` prepares the system, once; raises SystemUnavailable if this machine
    cannot run it. ``is_warm``: whether all dimension records are in the joins' state; None: it
    reads interactions before the gate is opened. ``events_share``: the fraction of the events after
    which a run ends; below 1 for slow systems. ``has_origins``: whether its records have origins:
    topic, partition and offset. ``output``: the output topic, if it is not configurable; it is
    recreated before each run.
    """

    name: str
    pair: str
    description: str
    start: Callable[[Task], Processes]
    prepare: Callable[[], object] = lambda: None
    is_warm: Callable[[Task, Topics], bool] | None = has_read_dimensions
    events_share: float = 1.0
    has_origins: bool = True
    output: str | None = None
