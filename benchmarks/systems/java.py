"""The yardstick: a hand-written Java DataStream job, compiled here, on the same cluster as ours."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pyflink

from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Started
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
    """Where the compiled yardstick is, and what it runs with; ``work`` is the bench folder."""

    work: Path

    @property
    def jar(self) -> Path:
        """The compiled classes; the name has a digest of the sources."""
        digest = hashlib.sha256()
        for source in sorted(SOURCES.glob("*.java")):
            digest.update(source.read_bytes())
        return self.work / "java" / f"reference-{digest.hexdigest()[:12]}.jar"

    def library(self) -> list[Path]:
        """What a job brings to the cluster: the Kafka connector and Avro."""
        cache = settings.jar_cache(os.environ)
        return [*jars.paths("flink", cache), *jars.paths("bench", cache, self._listed())]

    @staticmethod
    def java() -> str:
        """The launcher of the Java that the platform uses, too."""
        return str(java.find(os.environ).executable)

    def make(self) -> None:
        """Fetch what is missing and compile; raises SystemUnavailable when that is impossible."""
        cache = settings.jar_cache(os.environ)
        wanted = [*self._listed(), *jars.select_sets(jars.load(), ["flink"])]
        try:
            jars.fetch(wanted, cache, jars.repository_url(os.environ))
        except jars.JarError as error:
            raise SystemUnavailable(f"the yardstick's jars cannot be had: {error}") from error
        if not self.jar.exists():
            self._compile(jars.paths("bench-compiler", cache, self._listed())[0])

    def _compile(self, compiler: Path) -> None:
        classes = self.jar.with_suffix("")
        classes.mkdir(parents=True, exist_ok=True)
        flink = sorted((Path(pyflink.__path__[0]) / "lib").glob("*.jar"))
        class_path = os.pathsep.join(str(path) for path in [*flink, *self.library()])
        sources = [str(source) for source in sorted(SOURCES.glob("*.java"))]
        done = subprocess.run(
            [
                *(self.java(), "-cp", str(compiler), _COMPILER),
                *("-17", "-nowarn", "-d", str(classes)),
                *("-cp", class_path, *sources),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemUnavailable(f"the yardstick does not compile:\n{done.stdout}{done.stderr}")
        part = self.jar.with_suffix(".part")
        with zipfile.ZipFile(part, "w") as archive:
            for path in sorted(classes.rglob("*.class")):
                archive.write(path, path.relative_to(classes))
        part.rename(self.jar)

    @staticmethod
    def _listed() -> tuple[jars.Jar, ...]:
        return jars.load(DEPENDENCIES)


@dataclass(frozen=True, slots=True)
class JavaReference:
    """The Java job on one state backend."""

    tools: JavaTools
    cluster: Cluster
    backend: str

    output = None
    writes_origins = True
    gated = True
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
    def what(self) -> str:
        """One line for the report."""
        return f"Java DataStream, two KeyedCoProcessFunctions, {self.backend}, Avro to Kafka"

    def prepare(self) -> None:
        """Fetch the jars, compile."""
        self.tools.make()

    def start(self, task: Task) -> Started:
        """A cluster with the job in it."""

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
        """Offsets are committed by a checkpoint, which had passed the joins by then."""
        return topics.has_read(task.group, DIMENSION_TOPICS)
