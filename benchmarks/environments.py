"""Virtual environments for what is compared with: its packages are none of the product's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.errors import SystemUnavailable


def python_of(folder: Path) -> Path:
    """The interpreter of the virtual environment in a folder."""
    return folder / "bin" / "python"


def prepare(folder: Path, lock: Path, name: str) -> Path:
    """Make the virtual environment of a lock, again when the lock has changed; its interpreter.

    Raises SystemUnavailable, which says that it is `name` that cannot be installed, and why.
    """
    python, mark = python_of(folder), folder / "installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return python
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    done = subprocess.run(
        [
            *(str(python), "-m", "pip", "install", "--quiet", "--require-hashes"),
            *("--only-binary", ":all:", "-r", str(lock)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemUnavailable(
            f"{name} cannot be installed for Python {sys.version_info.major}."
            f"{sys.version_info.minor}: {done.stderr.strip()}"
        )
    mark.write_text(digest)
    return python
