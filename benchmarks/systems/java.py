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
from benchmarks.systems import System, Task
from benchmarks.systems.cluster import Cluster, job_configuration
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


def java_reference(tools: JavaTools, cluster: Cluster, backend: str) -> System:
    """The Java job on one state backend."""

    def start(task: Task) -> Processes:
        """Start a cluster and submit the job."""
        return cluster.run(
            tools.jar,
            task.arguments,
            job_configuration(backend, task),
            main_class="tunemesh.benchmarks.Reference",
            libraries=tools.library(),
        )

    return System(
        name=f"java-{backend}",
        pair=backend,
        description=f"Java DataStream, two KeyedCoProcessFunctions, {backend}, Avro to Kafka",
        start=start,
        prepare=tools.build,
    )
