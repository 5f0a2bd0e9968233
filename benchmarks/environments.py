"""Virtual environments for the systems that the product is compared with."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.errors import SystemUnavailable


def interpreter(folder: Path) -> Path:
    """Return the interpreter of the virtual environment in a folder."""
    return folder / "bin" / "python"


def prepare(folder: Path, lock: Path, name: str) -> Path:
    """Create the virtual environment of a lock file, unless it exists; returns its interpreter.

    Raises SystemUnavailable if the packages of ``name`` cannot be installed.
    """
    python, digest_file = interpreter(folder), folder / "installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if digest_file.exists() and digest_file.read_text() == digest:
        return python
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    result = subprocess.run(
        [
            *(str(python), "-m", "pip", "install", "--quiet", "--require-hashes"),
            *("--only-binary", ":all:", "-r", str(lock)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise SystemUnavailable(
            f"{name} cannot be installed for Python {sys.version_info.major}."
            f"{sys.version_info.minor}: {result.stderr.strip()}"
        )
    digest_file.write_text(digest)
    return python
