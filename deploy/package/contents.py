"""Which files of the repository an application needs, and its entry script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.package.errors import PackageError

ENTRY = "main.py"
JAR = "lib/pyflink-dependencies.jar"
WHEELS = "dep/"
RELEASE = "release.json"

RUN_OPTIONS_GROUP = "kinesis.analytics.flink.run.options"
RUN_OPTIONS: Mapping[str, str] = {"python": ENTRY, "jarfile": JAR, "pyFiles": WHEELS}
"""The property group that makes the service run the package."""

SUFFIXES = frozenset({".py", ".sql", ".json", ".yaml", ".avsc"})
"""What a package of the repository has at run time: code, SQL, plans, contracts."""


@dataclass(frozen=True, slots=True)
class Application:
    """What can be packaged: its name, its packages, and the module with its ``main``."""

    name: str
    packages: tuple[str, ...]
    main: str


APPLICATIONS: Mapping[str, Application] = {
    found.name: found
    for found in (
        Application("stream", ("schemas", "connectors", "jobs"), "jobs.main"),
        Application(
            "bootstrap", ("schemas", "connectors", "jobs", "batch"), "batch.bootstrap.__main__"
        ),
    )
}

ENTRY_TEXT = '''\
"""Starts the application of this package: `python` in the run options names this file."""

import sys
from pathlib import Path


def start() -> int:
    """The exit code of the application's client."""
    # Flink's client starts a link to this file, from any folder.
    release = Path(__file__).resolve().parent
    sys.path[:0] = [str(release), str(release / "dep")]
    from {main} import main

    return main()


if __name__ == "__main__":
    sys.exit(start())
'''


def application(name: str) -> Application:
    """The application of that name; raises PackageError for one that there is not."""
    if name not in APPLICATIONS:
        raise PackageError(f"no application {name!r}; there are: {', '.join(APPLICATIONS)}.")
    return APPLICATIONS[name]


def entry(chosen: Application) -> bytes:
    """The entry script."""
    return ENTRY_TEXT.format(main=chosen.main).encode()


def code(project: Path, chosen: Application) -> dict[str, bytes]:
    """The files of an application's packages, by their path below the project.

    Raises PackageError when a package is not there.
    """
    members: dict[str, bytes] = {}
    for package in chosen.packages:
        if not (project / package / "__init__.py").is_file():
            raise PackageError(
                f"the application {chosen.name!r} needs the package {package!r},"
                f" which is not in {project}."
            )
        for path in sorted((project / package).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                members[path.relative_to(project).as_posix()] = path.read_bytes()
    return members
