"""What an application runs on: Managed Flink, or the laptop's cluster, as an upgrade sees them.

The words are the service's (Amazon Managed Service for Apache Flink, API reference 2018-05-23), and
so are the rules: a version is taken only on top of the version that the caller has seen, changes
and snapshots take their time, and a snapshot can be taken of a running application only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from connectors.flink.properties import Groups
from schemas.errors import TunemeshError


class Status(StrEnum):
    """The states of an application, as the service names them."""

    DELETING = "DELETING"
    STARTING = "STARTING"
    STOPPING = "STOPPING"
    READY = "READY"
    """It is there and does not run."""
    RUNNING = "RUNNING"
    UPDATING = "UPDATING"
    AUTOSCALING = "AUTOSCALING"
    FORCE_STOPPING = "FORCE_STOPPING"
    ROLLING_BACK = "ROLLING_BACK"
    MAINTENANCE = "MAINTENANCE"
    ROLLED_BACK = "ROLLED_BACK"


PASSING = frozenset(Status) - {Status.READY, Status.RUNNING, Status.ROLLED_BACK}
"""The states that an application leaves by itself."""

RUNS = frozenset({Status.RUNNING, Status.ROLLED_BACK})
"""The states in which a job runs (or is being restarted by Flink)."""


class SnapshotStatus(StrEnum):
    """The states of a snapshot, as the service names them."""

    CREATING = "CREATING"
    READY = "READY"
    DELETING = "DELETING"
    FAILED = "FAILED"


class RestoreKind(StrEnum):
    """Where a version takes its state from, as the service names it."""

    NOTHING = "SKIP_RESTORE_FROM_SNAPSHOT"
    LATEST = "RESTORE_FROM_LATEST_SNAPSHOT"
    """For a running application that is the one made when it is stopped for the update."""
    CUSTOM = "RESTORE_FROM_CUSTOM_SNAPSHOT"


@dataclass(frozen=True, slots=True)
class Restore:
    """Where a version takes its state from; ``snapshot`` is the name of a custom one."""

    kind: RestoreKind
    snapshot: str | None = None


NOTHING = Restore(RestoreKind.NOTHING)
LATEST = Restore(RestoreKind.LATEST)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a version of an application is: code (by its release's name), settings, parallelism."""

    release: str
    properties: Groups
    parallelism: int

    def as_json(self) -> dict[str, Any]:
        """For a journal."""
        return {
            "release": self.release,
            "properties": {name: dict(group) for name, group in self.properties.items()},
            "parallelism": self.parallelism,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Configuration:
        """Raises KeyError when something is missing."""
        return cls(value["release"], value["properties"], value["parallelism"])


@dataclass(frozen=True, slots=True)
class Application:
    """An application as it is now.

    ``version`` counts its configurations, from 1; ``token`` is what the target wants back with a
    change that is made on top of this one.
    """

    name: str
    status: Status
    version: int
    configuration: Configuration
    token: str = ""
    rolled_back_from: int | None = None
    """The version that this one took the place of again, if it came by a rollback."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of an application's state."""

    name: str
    status: SnapshotStatus
    version: int
    """Of the application, when it was taken."""
    created: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class FlowHealth:
    """One way into a pipeline since its tasks started last; None: the target does not say (yet)."""

    delivered: int = 0
    dead_letters: int = 0
    behind: int | None = None
    """Records that have been published and not read."""
    rate: float | None = None
    """Records read a second, over the last minute."""
    counted: bool = True
    """Whether the target shows what is delivered and what becomes dead letters."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the present version does; counts begin with the version, or with its last restart."""

    running: bool
    """Every task runs."""
    restarts: int
    checkpoints: int
    """Completed ones."""
    flows: Mapping[str, FlowHealth] = field(default_factory=dict)
    failure: str = ""
    """Why it restarted last, in a line."""


class TargetError(TunemeshError):
    """A target refused or does not answer; says what to do next."""


class NoApplicationError(TargetError):
    """There is no application of that name."""


class ConcurrentChangeError(TargetError):
    """Somebody else has changed the application since it was looked at."""


class BusyError(TargetError):
    """The application is in a state in which the call is not taken; later it may be."""


class Target(Protocol):
    """An application on its target. Calls return when the target has taken the order, which may be
    long before it is carried out, and raise TargetError."""

    kind: str
    """``local`` or ``aws``."""

    name: str
    """Of the application."""

    def state(self) -> Application:
        """The application now; raises NoApplicationError."""

    def version(self, number: int) -> Configuration:
        """A former (or the present) version; raises TargetError when it is not known any more."""

    def files(self, release: str) -> Path | None:
        """A folder with the unpacked files of a release that runs or ran here; None: it is gone."""

    def check(self, configuration: Configuration, release: Path) -> None:
        """What only this target can find wrong with a version, before anything is touched."""

    def create(self, configuration: Configuration, release: Path) -> None:
        """A new application, READY; ``release`` is the release's zip, or its folder."""

    def start(self, restore: Restore) -> None:
        """Start a READY application."""

    def stop(self, *, force: bool) -> None:
        """Stop a running one: with a snapshot, or by force without."""

    def update(
        self,
        seen: Application,
        configuration: Configuration,
        release: Path | None,
        restore: Restore,
    ) -> None:
        """The next version on top of the one seen. A running application is restarted from
        ``restore``, a READY one is not started. ``release`` None: a release that was here before.
        """

    def rollback(self, seen: Application) -> None:
        """Back to the version before, with the state of the last snapshot; also in the middle of
        an update."""

    def advance(self) -> None:
        """Carry on with a change that an interrupted client has left half done, if the target does
        not do so by itself. Called while something is waited for."""

    def snapshot(self, name: str) -> None:
        """Begin a snapshot of a running application."""

    def snapshots(self) -> tuple[Snapshot, ...]:
        """All snapshots, the oldest first."""

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Begin to delete a snapshot."""

    def health(self) -> Health:
        """How the present version does."""

    def failure(self, version: int) -> str:
        """Why the change to a version failed, as far as the target says; empty: it does not."""
