"""The systems that are compared: each one starts its processes and reports when it is warm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import Processes
from benchmarks.topics import Topics

CHECKPOINT_SECONDS = 10
PARALLELISM = 2
LINGER_MS = 5
BATCH_BYTES = 262_144
COMPRESSION = "lz4"
"""The settings of the product's sink (connectors/kafka/tables.py), which all systems use."""


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


class System(Protocol):
    """A system in one configuration."""

    @property
    def name(self) -> str:
        """The name in the report, such as ``java-rocksdb``."""

    @property
    def pair(self) -> str:
        """The state backend; only runs of the same pair are compared."""

    @property
    def description(self) -> str:
        """What runs, in one line of the report."""

    @property
    def events_share(self) -> float:
        """The fraction of the events after which a run ends; below 1 for slow systems."""

    @property
    def has_origins(self) -> bool:
        """Whether its records have origins: topic, partition and offset."""

    @property
    def is_gated(self) -> bool:
        """Whether it reads interactions only after the gate was opened."""

    @property
    def output(self) -> str | None:
        """The output topic, if it is not configurable; it is recreated before each run."""

    def prepare(self) -> None:
        """Prepare the system, once; raises SystemUnavailable if this machine cannot run it."""

    def start(self, task: Task) -> Processes:
        """Start its processes."""

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Whether all dimension records are in the joins' state; for gated systems."""
