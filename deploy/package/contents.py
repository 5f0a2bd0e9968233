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

RUN_FILES: Mapping[str, str] = {"python": ENTRY, "jarfile": JAR, "pyFiles": WHEELS}
"""The run options that make the service run the package."""

SUFFIXES = frozenset({".py", ".sql", ".json", ".yaml", ".avsc"})
"""What a package of the repository has at run time: code, SQL, plans, contracts."""


_EVERYWHERE = ("aiohttp", "boto3", "botocore", "fastavro", "pyyaml", "yarl")

IN_MOTION = ("connectors/kafka/", "connectors/glue/")
"""What the streams use."""

AT_REST = ("connectors/catalog/", "connectors/products/", "connectors/stores/")
"""What exports, the catalog and the back ends use."""

BEYOND_MANIFESTS = (
    "connectors/catalog/",
    "connectors/stores/",
    "connectors/products/arrow.py",
    "connectors/products/reader.py",
    "connectors/products/upload.py",
    "connectors/products/versions.py",
    "connectors/products/writer.py",
)
"""AT_REST but for what reads a product's manifest; the rest needs pyarrow."""


@dataclass(frozen=True, slots=True)
class Application:
    """What can be packaged: its name, its packages, the module with its ``main``, and the set of
    pom-deps.txt that it brings along.

    ``imports`` are the requirements that its code imports; what these need comes along by itself. A
    test compares them with the imports. Some are there on the service too, in a version that nobody
    has promised: what is imported is what was tested. ``without`` of its packages is what only
    others use.
    """

    name: str
    packages: tuple[str, ...]
    main: str
    jar_set: str
    imports: tuple[str, ...]
    without: tuple[str, ...] = ()


APPLICATIONS: Mapping[str, Application] = {
    found.name: found
    for found in (
        Application(
            name="stream",
            packages=("schemas", "connectors", "jobs"),
            main="jobs.main",
            jar_set="flink",
            imports=(*_EVERYWHERE, "confluent-kafka"),
            without=AT_REST,
        ),
        Application(
            name="bootstrap",
            packages=("schemas", "connectors", "batch"),
            main="batch.bootstrap.__main__",
            jar_set="parquet",
            imports=_EVERYWHERE,
            without=(*BEYOND_MANIFESTS, *IN_MOTION, "batch/exports/", "batch/imports/"),
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
            name = path.relative_to(project).as_posix()
            if path.suffix in SUFFIXES and path.is_file() and not name.startswith(chosen.without):
                members[name] = path.read_bytes()
    return members
