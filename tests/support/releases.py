"""The released versions kept in `tests/released`, and the code that is here beside them."""

from __future__ import annotations

from deploy.local.settings import PROJECT
from deploy.package.release import (
    RUNTIME,
    PackageDescription,
    layout_hash,
    plan_descriptions,
    schema_hashes,
)
from schemas.model import BUILT_IN_FOLDER, load_contracts

FOLDER = PROJECT / "tests" / "released"
REBUILDS = FOLDER / "rebuilds.txt"
"""Released versions whose state does not fit today's code, with what the changelog says of it."""


def rebuilds() -> dict[str, str]:
    """The reason of each released version that needs a rebuild."""
    lines = REBUILDS.read_text(encoding="utf-8").splitlines() if REBUILDS.exists() else []
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines if line.strip()}


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
        plan_descriptions(plans),
        schema_hashes(contracts),
        layout_hash(contracts),
    )
