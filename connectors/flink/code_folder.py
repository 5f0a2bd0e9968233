"""Keeps the folder that a worker's code was loaded from, as long as the code is loaded.

What the service gives its workers (`pyFiles`) is in a folder of the job's. Flink removes it when
the job's last task on a worker has ended, and makes another one when tasks start again, as after
every failure. In thread mode the modules stay loaded, and look where they were loaded from for what
they need later: botocore for the models of services, a package for modules not imported so far.
Without that folder the job would restart indefinitely.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

CODE_FOLDER = Path(__file__).parents[2]
"""Not resolved: it is the name that the modules have."""

_LOCK = threading.Lock()


def keep_code_folder(folder: Path = CODE_FOLDER, path: Iterable[str] | None = None) -> None:
    """Make the folder, if it is missing, a link to the one on the Python path with the same code.

    Called by each function before it looks at a file. A later link replaces one that leads nowhere.
    """
    with _LOCK:
        if folder.exists():
            return
        for entry in map(Path, sys.path if path is None else path):
            if (entry / Path(*__name__.split(".")).with_suffix(".py")).is_file():
                folder.parent.mkdir(parents=True, exist_ok=True)
                link = folder.with_name(f".{folder.name}.{os.getpid()}")
                link.symlink_to(entry.absolute())
                link.replace(folder)
                return
