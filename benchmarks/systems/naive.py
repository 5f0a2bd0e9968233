"""The naive PyFlink join: DataStream API, decoded in Python, state read and written from Python."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Started, start
from benchmarks.publish import DIMENSION_TOPICS
from benchmarks.systems import COMPRESSION, LINGER_MS, Task, flink_settings
from benchmarks.systems.java import JavaTools
from benchmarks.topics import Topics
from deploy.local import jars, java, settings


@dataclass(frozen=True, slots=True)
class NaivePyFlink:
    """The job in one execution mode of Python, ``thread`` or ``process``, on RocksDB."""

    tools: JavaTools
    mode: str
    events_share: float

    gated = True
    discards = False
    writes_origins = False

    @property
    def name(self) -> str:
        """``naive-<mode>``."""
        return f"naive-{self.mode}"

    @property
    def pair(self) -> str:
        """As our own job."""
        return "rocksdb"

    @property
    def what(self) -> str:
        """One line for the report."""
        return (
            f"PyFlink DataStream, two KeyedCoProcessFunctions in Python, {self.mode} mode, rocksdb,"
            " Avro to Kafka without keys and origins (its API offers neither)"
        )

    def prepare(self) -> None:
        """The gate is the yardstick's."""
        self.tools.make()

    def start(self, task: Task) -> Started:
        """One Python process, with its gateway's JVM and, in process mode, its workers."""
        cache = settings.jar_cache(os.environ)
        library = [self.tools.jar, *jars.paths("flink", cache)]
        configuration = flink_settings("rocksdb", task) | {
            "python.execution-mode": self.mode,
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
        }
        command = [
            *(sys.executable, "-m", "benchmarks.naive.job"),
            *("--bootstrap", task.bootstrap, "--group", task.group, "--gate", str(task.gate)),
            *("--schemas", str(task.schemas), "--header", task.header.hex(), "--out", task.out),
            *("--linger-ms", str(LINGER_MS), "--compression", COMPRESSION),
            *("--jars", os.pathsep.join(str(path) for path in library), "--"),
            *(f"{name}={value}" for name, value in configuration.items()),
        ]
        # Python's own folder first: Flink starts its workers as `python`.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = {
            "PATH": path,
            "JAVA_HOME": str(java.find(os.environ).home),
            "_JAVA_OPTIONS": "-Xmx4g",
        }
        return start([command], task.log, environment=environment)

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Offsets are committed by a checkpoint, which had passed the joins by then."""
        return topics.has_read(task.group, DIMENSION_TOPICS)
