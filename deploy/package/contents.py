"""The files of the repository that an application needs, and its entry script."""

from __future__ import annotations

import tomllib
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
"""The suffixes of files needed at run time: code, SQL, plans, contracts."""


_EVERYWHERE = ("aiohttp", "boto3", "botocore", "fastavro", "pyyaml", "yarl")

STREAMING = ("connectors/kafka/", "connectors/glue/")
"""Folders that only streaming applications use."""

BATCH = ("connectors/catalog/", "connectors/products/", "connectors/stores/")
"""Folders that only exports, the catalog and the back ends use."""

BEYOND_MANIFESTS = (
    "connectors/catalog/",
    "connectors/stores/",
    "connectors/products/arrow.py",
    "connectors/products/reader.py",
    "connectors/products/upload.py",
    "connectors/products/versions.py",
    "connectors/products/writer.py",
)
"""BATCH but for what reads a product's manifest; the rest needs pyarrow."""


@dataclass(frozen=True, slots=True)
class Application:
    """An application that can be packaged: its name, its packages, the module with its ``main``,
    and its jar set of pom-deps.txt.

    ``imports`` are the requirements that its code imports; their own requirements are added
    automatically. A test compares them with the imports. The service provides some of them too, but
    guarantees no version; the packaged versions are the tested ones. ``without``: folders of its
    packages that only other applications use.
    """

    name: str
    packages: tuple[str, ...]
    main: str
    jar_set: str
    imports: tuple[str, ...]
    without: tuple[str, ...] = ()


APPLICATIONS: Mapping[str, Application] = {
    application.name: application
    for application in (
        Application(
            name="stream",
            packages=("schemas", "connectors", "jobs"),
            main="jobs.main",
            jar_set="flink",
            imports=(*_EVERYWHERE, "confluent-kafka"),
            without=BATCH,
        ),
        Application(
            name="bootstrap",
            packages=("schemas", "connectors", "batch"),
            main="batch.bootstrap.__main__",
            jar_set="parquet",
            imports=_EVERYWHERE,
            without=(
                *BEYOND_MANIFESTS,
                *STREAMING,
                *("batch/deletions/", "batch/exports/", "batch/imports/"),
            ),
        ),
    )
}

ENTRY_TEXT = '''\
"""Starts the application of this package: `python` in the run options names this file."""

import sys
from pathlib import Path


def start() -> int:
    """Start the application's client, and return its exit code."""
    # Flink's client starts a link to this file, from any folder.
    release = Path(__file__).resolve().parent
    sys.path[:0] = [str(release), str(release / "dep")]
    from {main} import main

    return main()


if __name__ == "__main__":
    sys.exit(start())
'''


def find_application(name: str) -> Application:
    """Return the application of that name; raises PackageError for an unknown name."""
    if name not in APPLICATIONS:
        raise PackageError(f"no application {name!r}. Applications: {', '.join(APPLICATIONS)}.")
    return APPLICATIONS[name]


def entry_script(chosen: Application) -> bytes:
    """Return the entry script."""
    return ENTRY_TEXT.format(main=chosen.main).encode()


def read_code(project: Path, chosen: Application) -> dict[str, bytes]:
    """Return the files of an application's packages, by their path below the project.

    Raises PackageError when a package is missing.
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


def project_version(project: Path) -> str:
    """Return the version of tunemesh, as pyproject.toml has it."""
    with (project / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
