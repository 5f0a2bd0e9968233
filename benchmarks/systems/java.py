"""The yardstick: a hand-written Java DataStream job in a minicluster, compiled here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pyflink

from benchmarks.errors import SystemUnavailable
from benchmarks.processes import Started, start
from benchmarks.publish import DIMENSION_TOPICS
from benchmarks.systems import COMPRESSION, DISCARD, LINGER_MS, Task, flink_settings
from benchmarks.topics import Topics
from deploy.local import jars, java, settings

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
        """Flink's own jars, the Kafka connector and Avro."""
        cache = settings.jar_cache(os.environ)
        flink = sorted((Path(pyflink.__path__[0]) / "lib").glob("*.jar"))
        return [*flink, *jars.paths("flink", cache), *jars.paths("bench", cache, self._listed())]

    @staticmethod
    def java() -> str:
        """The launcher of the Java that the platform uses, too."""
        return str(java.find(os.environ).executable)

    def make(self) -> None:
        """Fetch what is missing and compile; raises SystemUnavailable when that is impossible."""
        cache = settings.jar_cache(os.environ)
        wanted = [*self._listed(), *jars.of_sets(jars.load(), ["flink"])]
        try:
            jars.fetch(wanted, cache, jars.repository(os.environ))
        except jars.JarError as error:
            raise SystemUnavailable(f"the yardstick's jars cannot be had: {error}") from error
        if not self.jar.exists():
            self._compile(jars.paths("bench-compiler", cache, self._listed())[0])

    def _compile(self, compiler: Path) -> None:
        classes = self.jar.with_suffix("")
        classes.mkdir(parents=True, exist_ok=True)
        class_path = os.pathsep.join(str(path) for path in self.library())
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
    """The Java job on one state backend, writing to Kafka or discarding."""

    tools: JavaTools
    backend: str
    discards: bool

    writes_origins = True
    gated = True
    events_share = 1.0

    @property
    def name(self) -> str:
        """``java-<backend>``, with ``-discard`` when nothing is written."""
        return f"java-{self.backend}" + ("-discard" if self.discards else "")

    @property
    def pair(self) -> str:
        """State backend, and whether anything is written."""
        return self.backend + ("-discard" if self.discards else "")

    @property
    def what(self) -> str:
        """One line for the report."""
        out = "discarded unencoded" if self.discards else "Avro to Kafka"
        return f"Java DataStream, two KeyedCoProcessFunctions, {self.backend}, {out}"

    def prepare(self) -> None:
        """Fetch the jars, compile."""
        self.tools.make()

    def start(self, task: Task) -> Started:
        """One JVM: the job in a minicluster."""
        class_path = os.pathsep.join(map(str, [self.tools.jar, *self.tools.library()]))
        configuration = flink_settings(self.backend, task)
        command = [
            *(self.tools.java(), "-Xmx4g", "-cp", class_path),
            "tunemesh.benchmarks.Reference",
            *("--bootstrap", task.bootstrap, "--group", task.group, "--gate", str(task.gate)),
            *("--schemas", str(task.schemas), "--header", task.header.hex()),
            *("--out", DISCARD if self.discards else task.out),
            *("--linger-ms", str(LINGER_MS), "--compression", COMPRESSION),
            "--",
            *(f"{name}={value}" for name, value in configuration.items()),
        ]
        return start([command], task.log)

    def is_warm(self, task: Task, topics: Topics) -> bool:
        """Offsets are committed by a checkpoint, which had passed the joins by then."""
        return topics.has_read(task.group, DIMENSION_TOPICS)
