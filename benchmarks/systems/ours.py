"""The product's own enrichment job in its real form, as one of the systems."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Started
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

    writes_origins = True
    events_share = 1.0
    # The product closes the cold start itself (jobs/freshness/watch.py): it needs no gate, and its
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

    @property
    def output(self) -> str:
        """The topic of its contract: nothing in the product renames it."""
        return load_contracts().only(Role.ENRICHED).topic

    def prepare(self) -> None:
        """Nothing to make: the job is in this repository."""

    def start(self, task: Task) -> Started:
        """A cluster with the job in it, submitted as an application on the platform is."""
        if not task.endpoints:
            raise SystemUnavailable("the product needs a schema registry; leave out --bootstrap")
        topics = Topics(task.bootstrap)
        topics.remake(load_contracts().only(Role.DEAD_LETTER).topic, append_time=True)
        topics.close()
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
        """Never asked: it is not gated."""
        return True
