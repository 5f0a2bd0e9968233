"""Files: written atomically, and removed when there are many."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PRIVATE_UMASK = 0o077
"""Of processes that write below the platform's home: no other user reads what they create."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the former content or the new one; a text as UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def write_link(path: Path, target: Path) -> None:
    """Make a symbolic link, which replaces an existing file; safe for concurrent callers."""
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.replace(path)


def write_report(path: Path, document: Mapping[str, Any]) -> None:
    """Write a report as indented JSON."""
    write_whole(path, json.dumps(document, indent=2) + "\n")


def remove_oldest(paths: Iterable[Path], keep: int) -> None:
    """Remove all but the ``keep`` files or folders that were changed last."""
    for path in sorted(paths, key=lambda path: path.stat().st_mtime)[:-keep]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
