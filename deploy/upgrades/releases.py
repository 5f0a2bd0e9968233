"""Releases as folders: they are compared before an upgrade, and run on the local cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from connectors.files import remove_oldest
from deploy.package.archive import check_content, unpack
from deploy.package.errors import ContentError, PackageError
from deploy.package.release import read_description

MAX_RELEASES = 5
"""Unpacked releases that are kept beside those that run or may run again."""


def unpack_release(releases: Path, name: str, source: Path) -> Path:
    """Return the folder of a release below ``releases``, created atomically if it does not exist.

    ``source``: its zip, or a folder. Raises PackageError for a file that is no package, and
    ContentError when the release is not the named one: the name has the hash of the files.
    """
    folder = releases / name
    if folder.is_dir():
        os.utime(folder)
        return check_release(folder)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, part, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        unpack(source, part)
    try:
        check_release(part, name)
    except PackageError:
        shutil.rmtree(part)
        raise
    part.replace(folder)
    return folder


def prune_releases(releases: Path, needed: Collection[str]) -> None:
    """Remove all but those needed, and the last MAX_RELEASES that were unpacked or compared."""
    remove_oldest((f for f in releases.iterdir() if f.name not in needed), MAX_RELEASES)


def check_release(folder: Path, name: str | None = None) -> Path:
    """Return the folder of a release; raise ContentError unless it is the named one, unchanged."""
    name = folder.name if name is None else name
    if (actual := read_description(folder).name) != name:
        raise ContentError(
            f"the release {name} is another one: its description is that of {actual}. Nothing of"
            " it was run; upload or unpack again what `tunemesh package` has built."
        )
    check_content(folder)
    return folder
