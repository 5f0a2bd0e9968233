"""The baseline: a Java DataStream job, which is compiled here and runs on the same cluster."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pyflink

from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Processes
from benchmarks.publish import DIMENSION_TOPICS
from benchmarks.systems import BATCH_BYTES, COMPRESSION, LINGER_MS, Task
from benchmarks.systems.cluster import Cluster, job_configuration
from benchmarks.topics import Topics
from connectors.flink import java
from deploy.local import jars, settings

SOURCES = Path(__file__).parents[1] / "java"
DEPENDENCIES = SOURCES / "bench-deps.txt"
_COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"


@dataclass(frozen=True, slots=True)
class JavaTools:
    """Builds the baseline and provides its jars; ``work`` is the benchmark's folder."""

    work: Path

    @property
    def jar(self) -> Path:
        """The compiled classes; the name contains a digest of the sources."""
        digest = hashlib.sha256()
        for source in sorted(SOURCES.glob("*.java")):
            digest.update(source.read_bytes())
        return self.work / "java" / f"reference-{digest.hexdigest()[:12]}.jar"

    def library(self) -> list[Path]:
        """Return the jars of the job: the Kafka connector and Avro."""
        cache = settings.jar_cache(os.environ)
        return [*jars.paths("flink", cache), *jars.paths("bench", cache, self._dependencies())]

    @staticmethod
    def java() -> str:
        """Return the launcher of the Java that the platform uses."""
        return str(java.find(os.environ).executable)

    def build(self) -> None:
        """Fetch missing jars and compile; raises SystemUnavailable if that fails."""
        cache = settings.jar_cache(os.environ)
        wanted = [*self._dependencies(), *jars.select_sets(jars.load(), ["flink"])]
        try:
            jars.fetch(wanted, cache, jars.repository_url(os.environ))
        except jars.JarError as error:
            raise SystemUnavailable(
                f"the jars of the Java baseline cannot be fetched: {error}"
            ) from error
        if not self.jar.exists():
            self._compile(jars.paths("bench-compiler", cache, self._dependencies())[0])

    def _compile(self, compiler: Path) -> None:
        classes = self.jar.with_suffix("")
        classes.mkdir(parents=True, exist_ok=True)
        flink = sorted((Path(pyflink.__path__[0]) / "lib").glob("*.jar"))
        class_path = os.pathsep.join(str(path) for path in [*flink, *self.library()])
        sources = [str(source) for source in sorted(SOURCES.glob("*.java"))]
        result = subprocess.run(
            [
                *(self.java(), "-cp", str(compiler), _COMPILER),
                *("-17", "-nowarn", "-d", str(classes)),
                *("-cp", class_path, *sources),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise SystemUnavailable(
                f"the Java baseline does not compile:\n{result.stdout}{result.stderr}"
            )
        part = self.jar.with_suffix(".part")
        with zipfile.ZipFile(part, "w") as archive:
            for path in sorted(classes.rglob("*.class")):
                archive.write(path, path.relative_to(classes))
        part.rename(self.jar)

    @staticmethod
    def _dependencies() -> tuple[jars.Jar, ...]:
        return jars.load(DEPENDENCIES)


@dataclass(frozen=True, slots=True)
class JavaReference:
    """The Java job on one state backend."""

    tools: JavaTools
    cluster: Cluster
    backend: str

    output = None
    has_origins = True
    is_gated = True
    events_share = 1.0

    @property
    def name(self) -> str:
        """``java-<backend>``."""
        return f"java-{self.backend}"

    @property
    def pair(self) -> str:
        """The state backend."""
        return self.backend

    @property
    def description(self) -> str:
        """The description in the report."""
        return f"Java DataStream, two KeyedCoProcessFunctions, {self.backend}, Avro to Kafka"

    def prepare(self) -> None:
        """Fetch the jars and compile."""
        self.tools.build()

    def start(self, task: Task) -> Processes:
        """Start a cluster and submit the job."""

        def submit() -> str:
            return self.cluster.submit_java(
                self.tools.jar,
                "tunemesh.benchmarks.Reference",
                self.tools.library(),
                [
                    *("--bootstrap", task.bootstrap, "--group", task.group),
                    *("--gate", str(task.gate), "--schemas", str(task.schemas)),
                    *("--header", task.header.hex(), "--out", task.out),
                    *("--linger-ms", str(LINGER_MS), "--batch-bytes", str(BATCH_BYTES)),
                    *("--compression", COMPRESSION),
                ],
                job_configuration(self.backend, task),
            )

        return self.cluster.run(submit)

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Offsets are committed by a checkpoint, after it has passed the joins."""
        return topics.has_read(task.group, DIMENSION_TOPICS)
