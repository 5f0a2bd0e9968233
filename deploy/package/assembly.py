"""From the repository, requirements.lock and pom-deps.txt to the zip and its description."""

from __future__ import annotations

import hashlib
import json
import os
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.files import write_whole
from connectors.flink.properties import RUN_OPTIONS
from deploy.local import jars
from deploy.local.settings import PROJECT, jar_cache, wheel_cache
from deploy.package import archive, contents, jar, release, requirements, wheels
from deploy.package.errors import PackageError
from deploy.package.release import PackageDescription
from schemas.model import BUILT_IN_FOLDER, load_contracts

Report = Callable[[str], None]
"""Called with a line before each step."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package as it was built: where, how large, how long it took.

    ``sha256`` is the zip's; ``largest`` are its largest parts with the bytes that they take in it.
    """

    path: Path
    sha256: str
    bytes: int
    seconds: float
    members: int
    largest: tuple[tuple[str, int], ...]
    description: PackageDescription

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.description.name

    def json(self) -> str:
        """What lies beside the zip: figures of this build, and the run options that fit."""
        return json.dumps(
            {
                "name": self.name,
                "application": self.description.application,
                "version": self.description.version,
                "content_hash": self.description.content_hash,
                "sha256": self.sha256,
                "bytes": self.bytes,
                "limit_bytes": archive.MAX_BYTES,
                "members": self.members,
                "seconds": round(self.seconds, 2),
                "python": self.description.python,
                "runtime": self.description.runtime,
                "largest": dict(self.largest),
                RUN_OPTIONS: dict(contents.RUN_FILES),
            },
            indent=1,
        )


def build(
    application: str,
    output: Path,
    *,
    python: str = wheels.PYTHONS[0],
    project: Path = PROJECT,
    environ: Mapping[str, str] = os.environ,
    download: wheels.Download = wheels.pip_download,
    limit: int = archive.MAX_BYTES,
    report: Report = lambda line: None,
) -> Package:
    """Build the package of an application (stream, bootstrap) into a folder; returns it.

    Blocks; the network is used for jars and wheels that the user's caches lack. The same
    repository gives the same bytes. Raises PackageError (JarError for a jar that cannot be had)
    when it cannot be built or the service would not take it; nothing is written then.
    """
    started = time.monotonic()
    chosen = contents.application(application)
    if python not in wheels.PYTHONS:
        raise PackageError(f"no Python {python!r} for packages: {', '.join(wheels.PYTHONS)}.")
    code = contents.code(project, chosen)
    listed = jars.of_sets(jars.load(project / "pom-deps.txt"), [chosen.jar_set])
    cache = jar_cache(environ)
    report(f"jars: {len(listed)} as one")
    if jars.missing(listed, cache):
        jars.fetch(listed, cache, jars.repository(environ))
    lock = requirements.locked((project / "requirements.lock").read_text(encoding="utf-8"))
    wanted = requirements.needed(lock, chosen.imports, python)
    report(f"wheels: {len(wanted)} for Python {python}")
    found = wheels.provide(wanted, python, wheel_cache(environ), download)
    members = {
        contents.ENTRY: contents.entry(chosen),
        **code,
        contents.JAR: jar.merged(jars.paths(chosen.jar_set, cache, listed), jar.provided()),
        **_below(contents.WHEELS, wheels.unpacked(found)),
        **_below(contents.WHEELS, code),
    }
    archive.check_names(members)
    mesh = load_contracts((_contracts(project),))
    description = PackageDescription(
        application=chosen.name,
        version=_version(project),
        content_hash=archive.content_hash(members),
        python=python,
        runtime=release.RUNTIME,
        plans=release.plan_descriptions(code),
        schemas=release.schema_hashes(mesh),
        layout=release.layout_hash(mesh),
    )
    members[contents.RELEASE] = description.json()
    report(f"zip: {len(members)} files")
    zipped = archive.zipped(members)
    archive.check_size(zipped, limit)
    path = output / f"{description.name}.zip"
    package = Package(
        path=path,
        sha256=hashlib.sha256(zipped).hexdigest(),
        bytes=len(zipped),
        seconds=time.monotonic() - started,
        members=len(members),
        largest=archive.largest(zipped),
        description=description,
    )
    write_whole(path, zipped)
    write_whole(path.with_suffix(".json"), package.json().encode() + b"\n")
    return package


def _below(folder: str, members: Mapping[str, bytes]) -> dict[str, bytes]:
    return {folder + name: content for name, content in members.items()}


def _contracts(project: Path) -> Path:
    return project / BUILT_IN_FOLDER.relative_to(PROJECT)


def _version(project: Path) -> str:
    with (project / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
