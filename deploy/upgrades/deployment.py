"""What the local target knows of an application, where Managed Flink would: a file.

``deployments/<application>.json`` among the cluster's data, which `tunemesh up --fresh` empties:
versions, snapshots, the job, and the change that is under way, so that whoever comes next can carry
it out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from connectors.files import write_whole
from deploy.local import flink_cluster
from deploy.local.settings import LocalSettings
from deploy.upgrades.target import Configuration, SnapshotStatus, Status
from schemas.errors import TunemeshError


def file_of(settings: LocalSettings, application: str) -> Path:
    """Where an application's deployment is noted."""
    return settings.data(flink_cluster.PART) / "deployments" / f"{application}.json"


@dataclass(slots=True)
class TakenSnapshot:
    """A savepoint; ``request`` is Flink's id of one that is being made of ``job``."""

    name: str
    status: SnapshotStatus
    version: int
    created: float
    location: str | None = None
    job: str | None = None
    request: str | None = None


@dataclass(slots=True)
class Pending:
    """A change that was ordered and is not carried out yet.

    ``kind``: start, update, stop, force (a stop by force), rollback. ``job``: the id that the new
    job will have, so that it is known again. ``restore``: the address of a savepoint; ``latest``:
    the one that is made when the job is stopped.
    """

    kind: str
    job: str
    restore: str | None = None
    latest: bool = False
    former: int | None = None
    """The version that ran when it was ordered."""
    replaces: str | None = None
    """The job of an order that this one took the place of; it may have been submitted."""


@dataclass(slots=True)
class Deployment:
    """An application on the laptop's cluster."""

    name: str
    versions: dict[int, Configuration]
    version: int = 1
    status: Status = Status.READY
    job: str | None = None
    running_version: int | None = None
    former_version: int | None = None
    """The version that ran before the one that runs (or ran last)."""
    rolled_back_from: int | None = None
    pending: Pending | None = None
    snapshots: list[TakenSnapshot] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)

    @property
    def configuration(self) -> Configuration:
        """The present version's."""
        return self.versions[self.version]

    def next_version(self, configuration: Configuration) -> None:
        """Count on."""
        self.version += 1
        self.versions[self.version] = configuration


def read(file: Path) -> Deployment | None:
    """None where there is none; raises TunemeshError for a file that is none."""
    try:
        return _decoded(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise TunemeshError(
            f"{file} cannot be read ({type(error).__name__}: {error}). Without it the application"
            " is not known: remove it and submit anew"
        ) from error


def write(file: Path, deployment: Deployment) -> None:
    """Whole or not at all."""
    write_whole(file, json.dumps(asdict(deployment), indent=1))


def _decoded(fields: dict[str, Any]) -> Deployment:
    pending = fields["pending"]
    return Deployment(
        **{
            **fields,
            "versions": {
                int(number): Configuration(**version)
                for number, version in fields["versions"].items()
            },
            "failures": {int(number): text for number, text in fields["failures"].items()},
            "status": Status(fields["status"]),
            "pending": None if pending is None else Pending(**pending),
            "snapshots": [
                TakenSnapshot(**{**one, "status": SnapshotStatus(one["status"])})
                for one in fields["snapshots"]
            ],
        }
    )
