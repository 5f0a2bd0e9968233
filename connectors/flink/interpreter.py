"""This Python as Flink's JVM needs it; no pyflink here."""

from __future__ import annotations

import sysconfig
from pathlib import Path


def shared_libpython() -> Path | None:
    """Return the folder of this Python's shared library, which thread mode needs; None without."""
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    for key in ("INSTSONAME", "LDLIBRARY"):
        name = str(sysconfig.get_config_var(key) or "")
        if (".so" in name or name.endswith(".dylib")) and (folder / name).exists():
            return folder
    return None
