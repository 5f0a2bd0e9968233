"""The naive PyFlink join: DataStream API, decoded in Python, state read and written from Python."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.processes import Processes
from benchmarks.systems import System, Task
from benchmarks.systems.cluster import Cluster, job_configuration
from benchmarks.systems.java import JavaTools
from deploy.local import jars, settings

JOB = Path(__file__).parents[1] / "naive" / "job.py"


def naive_pyflink(tools: JavaTools, cluster: Cluster, mode: str, events_share: float) -> System:
    """The job in one execution mode of Python, ``thread`` or ``process``, on RocksDB."""

    def start(task: Task) -> Processes:
        """Start a cluster and submit the job."""
        library = [tools.jar, *jars.paths("flink", settings.jar_cache(os.environ))]
        return cluster.run(
            JOB,
            [*task.arguments, "--jars", os.pathsep.join(str(path) for path in library)],
            job_configuration("rocksdb", task) | {"python.execution-mode": mode},
        )

    return System(
        name=f"naive-{mode}",
        pair="rocksdb",  # as in the product
        description=f"PyFlink DataStream, two KeyedCoProcessFunctions in Python, {mode} mode,"
        " rocksdb, Avro to Kafka without keys and origins (its API offers neither)",
        start=start,
        prepare=tools.build,  # the gate, which the Java baseline contains
        events_share=events_share,
        has_origins=False,
    )
