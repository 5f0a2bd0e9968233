"""The product's enrichment job as one of the systems."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Processes
from benchmarks.systems import Task
from benchmarks.systems.cluster import Cluster, job_configuration
from benchmarks.topics import Topics
from connectors.flink.properties import write_groups
from deploy.local import application
from deploy.local.settings import PROJECT
from schemas.model import Role, load_contracts


@dataclass(frozen=True, slots=True)
class OurEnrichment:
    """``jobs/main.py`` with the enrichment pipeline and its compiled plan, by property groups."""

    cluster: Cluster
    backend: str
    mode: str

    has_origins = True
    events_share = 1.0
    # The product waits for dimension records itself (jobs/freshness/watch.py): it needs no gate
    # and is ready when its first record is written.
    is_gated = False

    @property
    def name(self) -> str:
        """``ours-<backend>-<mode>``."""
        return f"ours-{self.backend}-{self.mode}"

    @property
    def pair(self) -> str:
        """The state backend."""
        return self.backend

    @property
    def description(self) -> str:
        """The description in the report."""
        return f"tunemesh enrichment, {self.backend}, Python in {self.mode} mode, Avro to Kafka"

    @property
    def output(self) -> str:
        """The topic of the contract, which is not configurable."""
        return load_contracts().only(Role.ENRICHED).topic

    def prepare(self) -> None:
        """Nothing to prepare: the job is in this repository."""

    def start(self, task: Task) -> Processes:
        """Start a cluster and submit the job as `tunemesh submit` does."""
        if not task.has_registry:
            raise SystemUnavailable("the product needs a schema registry; omit --bootstrap")
        dead_letters = load_contracts().only(Role.DEAD_LETTER).topic
        Topics(task.bootstrap).recreate(dead_letters, append_time=True)
        properties = task.folder / "application.json"
        overrides = {
            "tunemesh.application": {"python.execution-mode": self.mode, "group.id": task.group},
            "tunemesh.kafka": {"bootstrap.servers": task.bootstrap},
        }
        groups = application.property_groups(self.cluster.settings, ("enrichment",), overrides)
        write_groups(properties, groups)
        return self.cluster.run(
            lambda: self.cluster.submit_python(
                PROJECT / "jobs" / "main.py",
                ["--properties", str(properties)],
                {
                    **job_configuration(self.backend, task),
                    **application.job_configuration(overrides),
                },
            )
        )

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Not used, because the system is not gated."""
        return True
