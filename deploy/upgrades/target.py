"""The interface of targets, which run an application: Managed Flink, or the local cluster.

Terms and rules are those of the service (Amazon Managed Service for Apache Flink, API reference
2018-05-23): an update names the version that it is based on, changes and snapshots are
asynchronous, and only a running application has snapshots created.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from connectors.flink.properties import Groups
from schemas.errors import TunemeshError


class Status(StrEnum):
    """The status of an application, as the service names it."""

    DELETING = "DELETING"
    STARTING = "STARTING"
    STOPPING = "STOPPING"
    READY = "READY"
    """The application exists and does not run."""
    RUNNING = "RUNNING"
    UPDATING = "UPDATING"
    AUTOSCALING = "AUTOSCALING"
    FORCE_STOPPING = "FORCE_STOPPING"
    ROLLING_BACK = "ROLLING_BACK"
    MAINTENANCE = "MAINTENANCE"
    ROLLED_BACK = "ROLLED_BACK"


TRANSITIONAL_STATUSES = frozenset(Status) - {Status.READY, Status.RUNNING, Status.ROLLED_BACK}
"""An application leaves these without further orders."""

RUNNING_STATUSES = frozenset({Status.RUNNING, Status.ROLLED_BACK})
"""With these a job runs, or is being restarted by Flink."""


class SnapshotStatus(StrEnum):
    """The status of a snapshot, as the service names it."""

    CREATING = "CREATING"
    READY = "READY"
    DELETING = "DELETING"
    FAILED = "FAILED"


class RestoreKind(StrEnum):
    """What a version is restored from, as the service names it."""

    NOTHING = "SKIP_RESTORE_FROM_SNAPSHOT"
    LATEST = "RESTORE_FROM_LATEST_SNAPSHOT"
    """For a running application, the snapshot created when it is stopped for the update."""
    CUSTOM = "RESTORE_FROM_CUSTOM_SNAPSHOT"


@dataclass(frozen=True, slots=True)
class Restore:
    """What a version is restored from; ``snapshot`` is the name of a custom one."""

    kind: RestoreKind
    snapshot: str | None = None


NOTHING = Restore(RestoreKind.NOTHING)
LATEST = Restore(RestoreKind.LATEST)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A version of an application: code (by the name of its release), settings, parallelism."""

    release: str
    properties: Groups
    parallelism: int


@dataclass(frozen=True, slots=True)
class Application:
    """The present state of an application.

    ``version`` numbers its configurations, from 1; ``token`` identifies this version to the target
    in a change that is based on it.
    """

    name: str
    status: Status
    version: int
    configuration: Configuration
    token: str = ""
    rolled_back_from: int | None = None
    """The version that this one replaced, if it was created by a rollback."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of an application's state."""

    name: str
    status: SnapshotStatus
    version: int
    """The application's version when the snapshot was created."""
    created: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class FlowHealth:
    """One input of a pipeline since its tasks last started; None: the target has no value (yet)."""

    delivered: int = 0
    dead_letters: int = 0
    behind: int | None = None
    """The number of records published and not read."""
    rate: float | None = None
    """Records read per second, over the last minute."""
    counted: bool = True
    """Whether the target counts delivered records and dead letters."""

    @property
    def total(self) -> int:
        """The number of records delivered or turned into dead letters."""
        return self.delivered + self.dead_letters


@dataclass(frozen=True, slots=True)
class Health:
    """The health of the present version; counts start with the version, or its last restart."""

    running: bool
    """Whether every task runs."""
    restarts: int
    checkpoints: int
    """The number of completed checkpoints."""
    flows: Mapping[str, FlowHealth] = field(default_factory=dict)
    failure: str = ""
    """Why it last restarted, in one line."""


class TargetError(TunemeshError):
    """A target refuses a call or does not answer; the message has the next step."""


class NoApplicationError(TargetError):
    """No application of that name exists."""


class ConcurrentChangeError(TargetError):
    """Another client has changed the application since its state was read."""


class BusyError(TargetError):
    """The application's status does not allow the call now; it may later."""


class Target(Protocol):
    """An application on its target.

    Calls return when the target has accepted an order, which may be long before it is carried out,
    and raise TargetError.
    """

    kind: str
    """``local`` or ``aws``."""

    name: str
    """The application's name."""

    def describe(self) -> Application:
        """Return the application's present state; raises NoApplicationError."""

    def describe_version(self, number: int) -> Configuration:
        """Return a version, former or present; raises TargetError if it no longer exists."""

    def find_files(self, release: str) -> Path | None:
        """Return a folder with the unpacked files of a release that runs or ran here, if any."""

    def check(self, configuration: Configuration, release: Path) -> None:
        """Check what only this target can, before anything is changed; raises TargetError."""

    def create(self, configuration: Configuration, release: Path) -> None:
        """Create an application, which is then READY; ``release``: the zip, or its folder."""

    def start(self, restore: Restore) -> None:
        """Start a READY application."""

    def stop(self, *, force: bool) -> None:
        """Stop a running application with a snapshot, or by force without."""

    def update(
        self,
        base: Application,
        configuration: Configuration,
        release: Path | None,
        restore: Restore,
    ) -> None:
        """Create the next version, based on the one given.

        A running application is restarted from ``restore``, a READY one is not started.
        ``release`` None: the target has the release already.
        """

    def roll_back(self, base: Application) -> None:
        """Return to the version before, with the state of the last snapshot; also in the middle of
        an update."""

    def advance(self) -> None:
        """Continue a change that an interrupted client has left unfinished, unless the target does
        so automatically. Called repeatedly while a client waits."""

    def create_snapshot(self, name: str) -> None:
        """Start to create a snapshot of a running application."""

    def list_snapshots(self) -> tuple[Snapshot, ...]:
        """Return all snapshots, the oldest first."""

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Start to delete a snapshot."""

    def read_health(self) -> Health:
        """Return the health of the present version."""

    def describe_failure(self, version: int) -> str:
        """Return why the change to a version failed; empty if the target does not say."""
