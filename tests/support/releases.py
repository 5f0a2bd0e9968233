"""The released versions kept in `tests/released`, and the code that is here beside them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

from deploy.local.settings import PROJECT
from deploy.package.archive import folder_hash
from deploy.package.contents import RELEASE
from deploy.package.release import (
    RUNTIME,
    PackageDescription,
    describe_plans,
    layout_hash,
    schema_hashes,
)
from jobs.settings import PIPELINES
from schemas.model import BUILT_IN_FOLDER, load_contracts

FOLDER = PROJECT / "tests" / "released"
REBUILDS = FOLDER / "rebuilds.txt"
"""Applications of released versions whose state does not fit today's code: lines of a version, the
pipelines separated by commas, and what the changelog says of it."""

APPLICATIONS = [c for count in (1, 2, 3) for c in combinations(PIPELINES, count)]
"""The pipelines of every application that the settings accept."""


def rebuilds() -> dict[tuple[str, tuple[str, ...]], str]:
    """The reason of each rebuild, by the released version and the application's pipelines."""
    lines = REBUILDS.read_text(encoding="utf-8").splitlines() if REBUILDS.exists() else []
    fields = [line.split(maxsplit=2) for line in lines if line.strip()]
    return {(version, tuple(names.split(","))): why for version, names, why in fields}


def package_folder(folder: Path) -> str:
    """Describe the files of a folder as a package, with their content hash; returns its name."""
    described = replace(description("0.1.0"), content_hash=folder_hash(folder))
    (folder / RELEASE).write_bytes(described.json())
    return described.name


def description(version: str) -> PackageDescription:
    """That of the code that is here; its content hash is of no package."""
    contracts = load_contracts((BUILT_IN_FOLDER,))
    plans = {
        f"jobs/plans/{file.name}": file.read_bytes()
        for file in (PROJECT / "jobs" / "plans").glob("*.json")
    }
    return PackageDescription(
        "stream",
        version,
        "0" * 64,
        "3.12",
        RUNTIME,
        describe_plans(plans),
        schema_hashes(contracts),
        layout_hash(contracts),
    )
