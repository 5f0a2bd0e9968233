"""The contract of targets, on which upgrades rely; run over each target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.upgrades.target import (
    LATEST,
    NOTHING,
    TRANSITIONAL_STATUSES,
    BusyError,
    ConcurrentChangeError,
    Configuration,
    NoApplicationError,
    Restore,
    RestoreKind,
    Snapshot,
    SnapshotStatus,
    Status,
    Target,
    TargetError,
)
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class TargetCase:
    """A target on which the application does not exist yet, and two releases for it."""

    target: Target
    one: Configuration
    other: Configuration
    files: dict[str, Path]
    """The zip or folder of each release, for ``create`` and ``update``."""
    seconds: float = 30.0

    def create(self) -> None:
        """Create the application, which is then READY."""
        self.target.create(self.one, self.files[self.one.release])

    def start(self) -> None:
        """Create and start the application, without state."""
        self.create()
        self.target.start(NOTHING)
        self.wait_settled(Status.RUNNING)

    def wait_settled(self, status: Status) -> None:
        """Wait until no change is in progress; then the status must be this one."""

        def is_settled() -> bool:
            self.target.advance()
            return self.target.describe().status not in TRANSITIONAL_STATUSES

        self.wait_until(is_settled, "no change is in progress")
        assert self.target.describe().status is status, self.target.describe_failure(
            self.target.describe().version
        )

    def wait_until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for a condition, described by ``what``."""
        wait_until(reached, what, self.seconds)

    def wait_snapshot(self, name: str) -> Snapshot:
        """Return a snapshot by name once it is complete or has failed."""

        def find() -> Snapshot:
            return next(s for s in self.target.list_snapshots() if s.name == name)

        self.wait_until(lambda: find().status is not SnapshotStatus.CREATING, f"{name} is complete")
        return find()


class TargetContract:
    """The tests; a subclass's module has a fixture ``case``."""

    def test_a_missing_application_is_reported(self, case: TargetCase) -> None:
        with pytest.raises(NoApplicationError):
            case.target.describe()

    def test_a_new_application_is_ready_and_has_its_configuration(self, case: TargetCase) -> None:
        case.create()
        seen = case.target.describe()
        assert (seen.status, seen.version, seen.configuration) == (Status.READY, 1, case.one)
        with pytest.raises(TargetError):
            case.target.create_snapshot("of-nothing")

    def test_a_ready_application_is_updated_without_being_started(self, case: TargetCase) -> None:
        case.create()
        other = case.other
        case.target.update(case.target.describe(), other, case.files[other.release], LATEST)
        case.wait_settled(Status.READY)
        seen = case.target.describe()
        assert (seen.version, seen.configuration) == (2, other)
        assert case.target.describe_version(1) == case.one

    def test_from_start_to_stop(self, case: TargetCase) -> None:
        """One test, since a start is slow: snapshots, a stale order, an update, a rollback, both
        kinds of stop."""
        target, one, other = case.target, case.one, case.other
        case.start()
        seen = target.describe()

        target.create_snapshot("first")
        assert case.wait_snapshot("first").version == 1
        assert case.wait_snapshot("first").status is SnapshotStatus.READY

        # An order based on another version changes nothing.
        stale = replace(seen, version=7, token="stale")
        with pytest.raises(ConcurrentChangeError):
            target.update(stale, other, case.files[other.release], LATEST)
        assert target.describe().configuration == one

        target.update(seen, other, case.files[other.release], LATEST)
        case.wait_settled(Status.RUNNING)
        seen = target.describe()
        assert (seen.version, seen.configuration) == (2, other)
        # One was created at the stop, of the former version.
        assert [s.version for s in target.list_snapshots()] == [1, 1]
        with pytest.raises((BusyError, TargetError)):
            target.start(LATEST)

        target.roll_back(seen)
        case.wait_settled(Status.RUNNING)
        seen = target.describe()
        assert (seen.version, seen.configuration, seen.rolled_back_from) == (3, one, 2)

        target.stop(force=True)
        case.wait_settled(Status.READY)
        assert len(target.list_snapshots()) == 2
        with pytest.raises(TargetError):
            target.start(Restore(RestoreKind.CUSTOM, "none-of-that-name"))
        case.wait_settled(Status.READY)

        target.start(Restore(RestoreKind.CUSTOM, "first"))
        case.wait_settled(Status.RUNNING)
        target.stop(force=False)
        case.wait_settled(Status.READY)
        assert target.list_snapshots()[-1].version == 3

        target.delete_snapshot(case.wait_snapshot("first"))
        case.wait_until(lambda: len(target.list_snapshots()) == 2, "the snapshot is deleted")
