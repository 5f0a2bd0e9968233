"""The product's enrichment job as one of the systems."""

from __future__ import annotations

from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Processes
from benchmarks.systems import System, Task
from benchmarks.systems.cluster import Cluster, job_configuration
from benchmarks.topics import Topics
from connectors.flink.properties import write_groups
from deploy.local import application
from deploy.local.settings import PROJECT
from schemas.model import Role, load_contracts


def our_enrichment(cluster: Cluster, backend: str, mode: str) -> System:
    """``jobs/main.py`` with the enrichment pipeline and its compiled plan, by property groups."""

    def start(task: Task) -> Processes:
        """Start a cluster and submit the job as `tunemesh submit` does."""
        if not task.has_registry:
            raise SystemUnavailable("the product needs a schema registry; omit --bootstrap")
        dead_letters = load_contracts().only(Role.DEAD_LETTER).topic
        Topics(task.bootstrap).recreate(dead_letters)
        properties = task.folder / "application.json"
        overrides = {
            "tunemesh.application": {"python.execution-mode": mode, "group.id": task.group},
            "tunemesh.kafka": {"bootstrap.servers": task.bootstrap},
        }
        groups = application.property_groups(cluster.settings, ("enrichment",), overrides)
        write_groups(properties, groups)
        return cluster.run(
            PROJECT / "jobs" / "main.py",
            ["--properties", str(properties)],
            job_configuration(backend, task),
        )

    return System(
        name=f"ours-{backend}-{mode}",
        pair=backend,
        description=f"tunemesh enrichment, {backend}, Python in {mode} mode, Avro to Kafka",
        start=start,
        # The product waits for dimension records itself (jobs/freshness/watch.py): it needs no gate
        # and is ready when its first record is written.
        is_warm=None,
        # The topic of the contract, which is not configurable.
        output=load_contracts().only(Role.ENRICHED).topic,
    )
