"""Variants of this checkout's release and schema versions, for the upgrade demo."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.package.archive import folder_hash, unpack
from deploy.package.assembly import build
from deploy.package.release import describe_plan, read_description
from schemas.model import Contract, SchemaVersion

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

ON_THE_PATH = ("", "dep")
"""Folders of a release that contain its code."""


def packaged(folder: Path) -> Path:
    """Build the package of this checkout for the running Python, and unpack it."""
    package = build("stream", folder, python=PYTHON)
    return unpack(package.path, folder / package.name)


def changed(release: Path, mark: str) -> Path:
    """Return the same code under another name, which TaskManagers show."""
    return _described(_copy(release, mark))


def restarting(release: Path, mark: str) -> Path:
    """Return code that compiles, and fails when a task opens."""
    other = _copy(release, mark)
    for part in ON_THE_PATH:
        file = other / part / "jobs" / "decode_functions.py"
        text = file.read_text(encoding="utf-8")
        begin = text.index("class DecodeInteraction")
        at = text.index("def open(self", begin)
        end = text.index(":\n", at) + 2
        broken = f'{text[:end]}        raise ValueError("a bad release")\n{text[end:]}'
        file.write_text(broken, encoding="utf-8")
    return _described(other)


def replanned(release: Path, mark: str) -> Path:
    """Return the same SQL with another plan: every operator has another uid."""
    other = _copy(release, mark)
    plans = {}
    for file in sorted((other / "jobs" / "plans").glob("*.json")):
        plan = json.loads(file.read_text(encoding="ascii"))
        for node in plan["nodes"]:
            node["id"] += 1000
        for edge in plan["edges"]:
            edge["source"] += 1000
            edge["target"] += 1000
        text = json.dumps(plan, indent=1)
        plans[file.stem] = describe_plan(text)
        for part in ON_THE_PATH:
            (other / part / "jobs" / "plans" / file.name).write_text(text, encoding="ascii")
    return _described(other, plans=plans)


def _copy(release: Path, mark: str) -> Path:
    """Return a copy with the mark in a file of its own."""
    other = release.with_name(f"release-{mark}")
    shutil.copytree(release, other, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "variant.txt").write_text(mark, encoding="ascii")
    return other


def _described(release: Path, **changed: Any) -> Path:
    """Write the description of a changed release; returns the release."""
    description = replace(read_description(release), content_hash=folder_hash(release), **changed)
    (release / "release.json").write_bytes(description.json())
    return release


def next_version(
    contract: Contract, *added: dict[str, Any], removed: Collection[str] = ()
) -> Contract:
    """Return the contract with a new version: fields added at the end, fields removed."""
    avro = contract.newest.avro
    avro["fields"] = [f for f in avro["fields"] if f["name"] not in removed] + list(added)
    version = SchemaVersion(contract.newest.number + 1, json.dumps(avro))
    return replace(contract, versions=(*contract.versions, version))
