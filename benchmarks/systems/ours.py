"""The product's own enrichment job, as one of the systems.

THE PLACE TO FILL: :meth:`OurEnrichment.start`. Until then it raises SystemUnavailable, and the
report says that ours did not run.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Started
from benchmarks.systems import Task
from benchmarks.topics import Topics


@dataclass(frozen=True, slots=True)
class OurEnrichment:
    """``jobs.main`` with the enrichment pipeline, in its real form."""

    backend: str
    mode: str

    writes_origins = True
    events_share = 1.0
    discards = False
    # The product closes the cold start itself (watermark alignment): it needs no gate, and its
    # run counts as ready when its first record is out.
    gated = False

    @property
    def name(self) -> str:
        """``ours-<backend>-<mode>``."""
        return f"ours-{self.backend}-{self.mode}"

    @property
    def pair(self) -> str:
        """Compared with the yardstick on the same state backend."""
        return self.backend

    @property
    def what(self) -> str:
        """One line for the report."""
        return f"tunemesh enrichment, {self.backend}, Python in {self.mode} mode, Avro to Kafka"

    def prepare(self) -> None:
        """Nothing to make: the job is in this repository."""

    def start(self, task: Task) -> Started:
        """Start the job on ``task.bootstrap`` with ``task.out`` as its output topic.

        Use :func:`benchmarks.systems.flink_settings` for the Flink configuration, so that both
        sides have the same, and ``task.endpoints`` for the registry. Return
        :class:`benchmarks.processes.Started` with every process of it (``extra_pids`` for those of
        a cluster that was there before).
        """
        raise SystemUnavailable(
            "the enrichment job is not attached to the benchmark yet (benchmarks/systems/ours.py)"
        )

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Never asked: it is not gated."""
        return True
