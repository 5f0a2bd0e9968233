"""Releases as folders: what is compared before an upgrade, and what runs on the laptop."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.package import unpack


def unpacked(releases: Path, name: str, given: Path) -> Path:
    """The folder of a release below ``releases``; made, whole or not at all, when it is not there.

    ``given``: its zip, or a folder. Raises PackageError for a file that is no package.
    """
    folder = releases / name
    if folder.is_dir():
        return folder
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    if given.is_dir():
        shutil.copytree(given, part, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        unpack(given, part)
    part.replace(folder)
    return folder
