"""The naive PyFlink join: DataStream API, decoded in Python, state read and written from Python."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Processes
from benchmarks.publish import DIMENSION_TOPICS
from benchmarks.systems import BATCH_BYTES, COMPRESSION, LINGER_MS, Task
from benchmarks.systems.cluster import Cluster, job_configuration
from benchmarks.systems.java import JavaTools
from benchmarks.topics import Topics
from deploy.local import jars, settings

JOB = Path(__file__).parents[1] / "naive" / "job.py"


@dataclass(frozen=True, slots=True)
class NaivePyFlink:
    """The job in one execution mode of Python, ``thread`` or ``process``, on RocksDB."""

    tools: JavaTools
    cluster: Cluster
    mode: str
    events_share: float

    is_gated = True
    output = None
    has_origins = False

    @property
    def name(self) -> str:
        """``naive-<mode>``."""
        return f"naive-{self.mode}"

    @property
    def pair(self) -> str:
        """The state backend, as in the product."""
        return "rocksdb"

    @property
    def description(self) -> str:
        """The description in the report."""
        return (
            f"PyFlink DataStream, two KeyedCoProcessFunctions in Python, {self.mode} mode, rocksdb,"
            " Avro to Kafka without keys and origins (its API offers neither)"
        )

    def prepare(self) -> None:
        """Build the gate, which the Java baseline contains."""
        self.tools.build()

    def start(self, task: Task) -> Processes:
        """Start a cluster and submit the job."""
        cache = settings.jar_cache(os.environ)
        library = [self.tools.jar, *jars.paths("flink", cache)]

        def submit() -> str:
            return self.cluster.submit_python(
                JOB,
                [
                    *("--bootstrap", task.bootstrap, "--group", task.group),
                    *("--gate", str(task.gate), "--schemas", str(task.schemas)),
                    *("--header", task.header.hex(), "--out", task.out),
                    *("--linger-ms", str(LINGER_MS), "--batch-bytes", str(BATCH_BYTES)),
                    *("--compression", COMPRESSION),
                    *("--jars", os.pathsep.join(str(path) for path in library)),
                ],
                job_configuration("rocksdb", task) | {"python.execution-mode": self.mode},
            )

        return self.cluster.run(submit)

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Offsets are committed by a checkpoint, after it has passed the joins."""
        return topics.has_read(task.group, DIMENSION_TOPICS)
