"""Releases as folders: they are compared before an upgrade, and run on the local cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.package.archive import unpack


def unpack_release(releases: Path, name: str, source: Path) -> Path:
    """Return the folder of a release below ``releases``, created atomically if it does not exist.

    ``source``: its zip, or a folder. Raises PackageError for a file that is no package.
    """
    folder = releases / name
    if folder.is_dir():
        return folder
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, part, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        unpack(source, part)
    part.replace(folder)
    return folder
