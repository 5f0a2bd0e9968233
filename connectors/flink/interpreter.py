"""This Python as Flink's JVM needs it; no pyflink here."""

from __future__ import annotations

import sysconfig
from pathlib import Path


def is_optimised_build() -> bool:
    """Whether this Python was compiled with profile-guided optimisation.

    It then decodes a third faster; pyenv, for one, compiles without it. Debian and Ubuntu, which
    profile in their own way, are recognized by the compiler flags that they remove.
    """
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    return "--enable-optimizations" in options or not sysconfig.get_config_var("PGO_PROF_USE_FLAG")


def shared_libpython() -> Path | None:
    """Return the folder of this Python's shared library, which thread mode needs; None without."""
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    for key in ("INSTSONAME", "LDLIBRARY"):
        name = str(sysconfig.get_config_var(key) or "")
        if (".so" in name or name.endswith(".dylib")) and (folder / name).exists():
            return folder
    return None
