"""Builds the zip and its description from the repository, requirements.lock and pom-deps.txt."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.files import write_whole
from connectors.flink.properties import RUN_OPTIONS
from deploy.local import jars
from deploy.local.settings import PROJECT, jar_cache, wheel_cache
from deploy.package import archive, contents, jar, release, requirements, sbom, wheels
from deploy.package.errors import PackageError
from deploy.package.release import PackageDescription
from schemas.model import BUILT_IN_FOLDER, load_contracts

Report = Callable[[str], None]
"""Called with a line before each step."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package with the results of its build.

    ``sha256``: of the zip; ``largest``: its largest parts with their compressed bytes.
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
        """The file's name without its suffix."""
        return self.description.name

    def json(self) -> str:
        """Return the file beside the zip: results of the build, and the run options."""
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

    Blocks; the network is used for jars and wheels that are not in the user's caches. The same
    repository gives the same bytes. Raises PackageError (JarError for a jar that cannot be
    downloaded) when it cannot be built or exceeds the service's limits; then nothing is written.
    """
    started = time.monotonic()
    chosen = contents.find_application(application)
    if python not in wheels.PYTHONS:
        versions = ", ".join(wheels.PYTHONS)
        raise PackageError(f"no packages for Python {python!r}. Versions: {versions}.")
    code = contents.read_code(project, chosen)
    listed = jars.select_sets(jars.load(project / "pom-deps.txt"), [chosen.jar_set])
    cache = jar_cache(environ)
    report(f"jars: {len(listed)} merged into one")
    if jars.list_absent(listed, cache):
        jars.fetch(listed, cache, jars.repository_url(environ))
    lock = requirements.parse_lock((project / "requirements.lock").read_text(encoding="utf-8"))
    wanted = requirements.resolve(lock, chosen.imports, python)
    report(f"wheels: {len(wanted)} for Python {python}")
    paths = wheels.provide_wheels(wanted, python, wheel_cache(environ), download)
    members = {
        contents.ENTRY: contents.entry_script(chosen),
        **code,
        contents.JAR: jar.merge_jars(
            jars.paths(chosen.jar_set, cache, listed), jar.provided_entries()
        ),
        **_prefix_names(contents.WHEELS, wheels.read_members(paths)),
        **_prefix_names(contents.WHEELS, code),
    }
    archive.check_names(members)
    mesh = load_contracts((_contracts(project),))
    description = PackageDescription(
        application=chosen.name,
        version=contents.project_version(project),
        content_hash=archive.content_hash(members),
        python=python,
        runtime=release.RUNTIME,
        plans=release.describe_plans(code),
        schemas=release.schema_hashes(mesh),
        layout=release.layout_hash(mesh),
    )
    members[contents.RELEASE] = description.json()
    report(f"zip: {len(members)} files")
    zipped = archive.make_zip(members)
    archive.check_size(zipped, limit)
    path = output / f"{description.name}.zip"
    package = Package(
        path=path,
        sha256=hashlib.sha256(zipped).hexdigest(),
        bytes=len(zipped),
        seconds=time.monotonic() - started,
        members=len(members),
        largest=archive.find_largest(zipped),
        description=description,
    )
    write_whole(path, zipped)
    write_whole(path.with_suffix(".json"), package.json().encode() + b"\n")
    digests = {pin.name: wheels.sha256_of(file) for pin, file in zip(wanted, paths, strict=True)}
    parts = sbom.describe(f"tunemesh-{chosen.name}", description.version, wanted, listed, digests)
    write_whole(path.with_suffix(".cdx.json"), parts)
    return package


def _prefix_names(folder: str, members: Mapping[str, bytes]) -> dict[str, bytes]:
    return {folder + name: content for name, content in members.items()}


def _contracts(project: Path) -> Path:
    return project / BUILT_IN_FOLDER.relative_to(PROJECT)
