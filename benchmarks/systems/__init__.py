"""The systems that are compared: each starts its processes and says how it is known to be warm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import Started
from benchmarks.topics import Topics

DISCARD = "discard"
CHECKPOINT_SECONDS = 10
PARALLELISM = 2
LINGER_MS = 20
COMPRESSION = "lz4"


@dataclass(frozen=True, slots=True)
class Task:
    """What one run of one system is given.

    ``out``: its own output topic, or :data:`DISCARD`. ``gate``: a file that the harness makes once
    the system is warm; a gated system does not read interactions before. ``folder``: an empty
    folder for its state. ``log``: what its processes print. ``schemas``: a folder with
    ``<contract>.avsc`` of each newest version. ``header``: the registry header of the records that
    it writes, 18 bytes. ``group``: its consumer group. ``dimensions``: how many records the
    dimension topics hold. ``endpoints``:
    environment variables with the addresses of local services.
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
    endpoints: Mapping[str, str]


class System(Protocol):
    """One system in one configuration."""

    @property
    def name(self) -> str:
        """As in the report, such as ``java-rocksdb``."""

    @property
    def pair(self) -> str:
        """Runs of the same pair are comparable: state backend and output."""

    @property
    def what(self) -> str:
        """One line for the report: what runs, and what it leaves out."""

    @property
    def events_share(self) -> float:
        """The share of the events after which a run ends: less than 1 for the very slow."""

    @property
    def writes_origins(self) -> bool:
        """Whether its records say which topic, partition and offset things came from."""

    @property
    def gated(self) -> bool:
        """Whether it waits for the gate before it reads interactions."""

    @property
    def discards(self) -> bool:
        """Whether it throws its output away and only counts."""

    def prepare(self) -> None:
        """Make what it needs, once; raises SystemUnavailable when this machine cannot run it."""

    def start(self, task: Task) -> Started:
        """Start its processes."""

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Whether all dimensions are in the joins' state; asked of gated systems only."""


def flink_settings(backend: str, task: Task) -> dict[str, str]:
    """Flink configuration that all Flink systems share; ``backend``: hashmap or rocksdb."""
    return {
        "parallelism.default": str(PARALLELISM),
        "taskmanager.numberOfTaskSlots": str(PARALLELISM),
        "taskmanager.memory.managed.size": "512m",
        "pipeline.object-reuse": "true",
        "restart-strategy.type": "none",
        "state.backend.type": backend,
        "execution.checkpointing.interval": f"{CHECKPOINT_SECONDS} s",
        "execution.checkpointing.incremental": "true",
        "execution.checkpointing.dir": (task.folder / "checkpoints").as_uri(),
        "io.tmp.dirs": str(task.folder),
    }
