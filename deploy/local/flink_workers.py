"""The TaskManagers of the cluster, and the code that they run: the checkout's, or a release's.

In thread mode a TaskManager keeps the Python modules that it has loaded, so a version of the code
needs its own TaskManagers. ``tunemesh up`` starts those of the checkout; an upgrade replaces them
and records its own here, so that a later ``tunemesh up`` restarts the right ones after a crash.
The record is valid while the JobManager runs: without it no job runs either.
"""

from __future__ import annotations

import json
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from connectors.files import write_whole
from deploy.local import process
from deploy.local.settings import PROJECT, LocalSettings

JOBMANAGER = "flink-jobmanager"
TASKMANAGER = "flink-taskmanager-"


@dataclass(frozen=True, slots=True)
class Workers:
    """The names of TaskManagers, and their PYTHONPATH."""

    names: tuple[str, ...]
    python_path: tuple[str, ...]


def checkout_workers(settings: LocalSettings) -> Workers:
    """Return the TaskManagers that `tunemesh up` starts."""
    names = tuple(f"{TASKMANAGER}{number}" for number in range(1, settings.taskmanagers + 1))
    return Workers(names, (str(PROJECT), site_packages()))


def read_workers(settings: LocalSettings) -> Workers:
    """Return the TaskManagers that the cluster should have."""
    try:
        record = json.loads(_file(settings).read_text(encoding="utf-8"))
        if record["jobmanager"] == _jobmanager(settings):
            return Workers(tuple(record["names"]), tuple(record["python_path"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return checkout_workers(settings)


def write_workers(settings: LocalSettings, workers: Workers) -> None:
    """Record the TaskManagers that the cluster should have."""
    file = _file(settings)
    text = json.dumps(
        {
            "names": workers.names,
            "python_path": workers.python_path,
            "jobmanager": _jobmanager(settings),
        }
    )
    write_whole(file, text)


def site_packages() -> str:
    """Return the folder of this Python's packages, including pyflink."""
    return sysconfig.get_paths()["purelib"]


def _jobmanager(settings: LocalSettings) -> list[float] | None:
    record = process.read_record(settings, JOBMANAGER)
    return None if record is None else [record.pid, record.started]


def _file(settings: LocalSettings) -> Path:
    return settings.run / "flink-conf" / "workers.json"
