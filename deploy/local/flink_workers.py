"""Which TaskManagers the cluster has, and whose code they run: the checkout's, or a release's.

In thread mode a TaskManager keeps the Python modules that it has loaded, so code goes with its
TaskManagers. ``tunemesh up`` starts those of the checkout; an upgrade puts others in their place
and notes them here, so that a later ``tunemesh up`` brings back the right ones when one has died.
The note is good for as long as the JobManager lives: without it there is no job either.
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
    """The TaskManagers by name, and the PYTHONPATH that they have."""

    names: tuple[str, ...]
    python_path: tuple[str, ...]


def of_checkout(settings: LocalSettings) -> Workers:
    """What `tunemesh up` starts."""
    names = tuple(f"{TASKMANAGER}{number}" for number in range(1, settings.taskmanagers + 1))
    return Workers(names, (str(PROJECT), site_packages()))


def present(settings: LocalSettings) -> Workers:
    """The TaskManagers that the running cluster should have."""
    try:
        noted = json.loads(_file(settings).read_text(encoding="utf-8"))
        if noted["jobmanager"] == _jobmanager(settings):
            return Workers(tuple(noted["names"]), tuple(noted["python_path"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return of_checkout(settings)


def note(settings: LocalSettings, workers: Workers) -> None:
    """These are the TaskManagers from now on."""
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
    """Where this Python's packages are, pyflink among them."""
    return sysconfig.get_paths()["purelib"]


def _jobmanager(settings: LocalSettings) -> list[float] | None:
    record = process.read_record(settings, JOBMANAGER)
    return None if record is None else [record.pid, record.started]


def _file(settings: LocalSettings) -> Path:
    return settings.run / "flink-conf" / "workers.json"
