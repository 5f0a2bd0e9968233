"""The systems that are compared: each starts its processes and says how it is known to be warm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import Started
from benchmarks.topics import Topics

CHECKPOINT_SECONDS = 10
PARALLELISM = 2
LINGER_MS = 5
BATCH_BYTES = 262_144
COMPRESSION = "lz4"
"""Of the product's own sink (connectors/kafka/tables.py); the others write with the same."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one run of one system is given.

    ``out``: its own output topic. ``gate``: a file that the harness makes once
    the system is warm; a gated system does not read interactions before. ``folder``: an empty
    folder for its state. ``log``: what its processes print. ``schemas``: a folder with
    ``<contract>.avsc`` of each newest version. ``header``: the registry header of the records that
    it writes, 18 bytes. ``group``: its consumer group. ``dimensions``: how many records the
    dimension topics hold. ``endpoints``: environment variables with the addresses of local
    services; empty when there is no registry.
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
        """Runs of the same pair are comparable: the state backend."""

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
    def output(self) -> str | None:
        """The topic that it writes to when it cannot be told one; made anew before each run."""

    def prepare(self) -> None:
        """Make what it needs, once; raises SystemUnavailable when this machine cannot run it."""

    def start(self, task: Task) -> Started:
        """Start its processes."""

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Whether all dimensions are in the joins' state; asked of gated systems only."""
