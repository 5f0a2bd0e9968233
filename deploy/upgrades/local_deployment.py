"""The record of an application on the local cluster, which Managed Flink would keep: a file.

``deployments/<application>.json`` in the cluster's data, which `tunemesh up --fresh` empties, has
the versions, the snapshots, the job, and a pending change, which the next client carries out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from connectors.files import write_whole
from deploy.local import flink_cluster
from deploy.local.settings import LocalSettings
from deploy.upgrades.target import Configuration, SnapshotStatus, Status
from schemas.errors import TunemeshError

MAX_VERSIONS = 100
"""Versions of an application that are recorded, beside those that may run again."""


def deployment_file(settings: LocalSettings, application: str) -> Path:
    """Return the file with an application's record."""
    return settings.data(flink_cluster.NAME) / "deployments" / f"{application}.json"


@dataclass(slots=True)
class LocalSnapshot:
    """A savepoint; ``request`` is Flink's id of one that is being created of ``job``."""

    name: str
    status: SnapshotStatus
    version: int
    created: float
    location: str | None = None
    job: str | None = None
    request: str | None = None


@dataclass(slots=True)
class PendingChange:
    """A change that was ordered and is not carried out yet.

    ``kind``: start, update, stop, force (a forced stop), rollback. ``job``: the id that the new job
    will have, by which it is recognised. ``restore``: the location of a savepoint; ``latest``:
    restore the one that is created when the job is stopped.
    """

    kind: str
    job: str
    restore: str | None = None
    latest: bool = False
    former: int | None = None
    """The version that ran when the change was ordered."""
    replaces: str | None = None
    """The job of a pending change that this one has replaced; it may have been submitted."""


@dataclass(slots=True)
class LocalDeployment:
    """An application on the local cluster."""

    name: str
    versions: dict[int, Configuration]
    version: int = 1
    status: Status = Status.READY
    job: str | None = None
    running_version: int | None = None
    former_version: int | None = None
    """The version that ran before the one that runs (or ran last)."""
    rolled_back_from: int | None = None
    pending: PendingChange | None = None
    snapshots: list[LocalSnapshot] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)

    @property
    def configuration(self) -> Configuration:
        """The configuration of the present version."""
        return self.versions[self.version]

    @property
    def ready_snapshots(self) -> list[LocalSnapshot]:
        """The snapshots that can be restored, the oldest first."""
        return [s for s in self.snapshots if s.status is SnapshotStatus.READY]

    @property
    def needed_versions(self) -> set[int]:
        """The versions that run or may run again: by a pending change, a rollback, a snapshot."""
        numbers = [self.version, self.running_version, self.former_version]
        if self.pending is not None:
            numbers.append(self.pending.former)
        numbers += [snapshot.version for snapshot in self.snapshots]
        return {number for number in numbers if number is not None}

    def add_version(self, configuration: Configuration) -> None:
        """Add a version, which becomes the present one; of the others the last are kept."""
        self.version += 1
        self.versions[self.version] = configuration
        for number in sorted(self.versions)[:-MAX_VERSIONS]:
            if number not in self.needed_versions:
                del self.versions[number]
                self.failures.pop(number, None)

    def mark_stopped(self, failure: str = "") -> None:
        """Record that no job runs; ``failure``: why the present version does not run."""
        if failure:
            self.failures[self.version] = failure
        self.status, self.job = Status.READY, None


def read(file: Path) -> LocalDeployment | None:
    """Return a file's record, None without one; raises TunemeshError for an invalid file."""
    try:
        return TypeAdapter(LocalDeployment).validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise TunemeshError(
            f"{file} cannot be read ({type(error).__name__}: {error}). It is the only record of"
            " the application: remove it and submit the application again"
        ) from error


def read_all(settings: LocalSettings) -> list[LocalDeployment]:
    """Return the records of all applications of the cluster."""
    folder = deployment_file(settings, "any").parent
    records = (read(file) for file in sorted(folder.glob("*.json")))
    return [record for record in records if record is not None]


def write(file: Path, deployment: LocalDeployment) -> None:
    """Write a record atomically."""
    write_whole(file, json.dumps(asdict(deployment), indent=1))
