"""What every target keeps that an upgrade relies on; run over each of them.

A place is a target with two releases and what differs: how long is waited.
"""

from __future__ import annotations

import time
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


@dataclass(frozen=True, slots=True)
class Place:
    """A target without the application yet, and two releases for it."""

    target: Target
    one: Configuration
    other: Configuration
    files: dict[str, Path]
    """Of each release what ``create`` and ``update`` take."""
    seconds: float = 30.0

    def created(self) -> None:
        """The application, READY."""
        self.target.create(self.one, self.files[self.one.release])

    def running(self) -> None:
        """The application, RUNNING without state."""
        self.created()
        self.target.start(NOTHING)
        self.settled(Status.RUNNING)

    def settled(self, status: Status) -> None:
        """Wait until nothing moves; then the status must be this one."""

        def still() -> bool:
            self.target.advance()
            return self.target.describe().status not in TRANSITIONAL_STATUSES

        self.until(still, "nothing moves")
        assert self.target.describe().status is status, self.target.describe_failure(
            self.target.describe().version
        )

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + self.seconds
        while not reached():
            assert time.monotonic() < deadline, f"in vain: {what}"
            time.sleep(0.02)

    def snapshot(self, name: str) -> Snapshot:
        """A snapshot by name, when it is no longer being made."""

        def found() -> list[Snapshot]:
            return [one for one in self.target.list_snapshots() if one.name == name]

        self.until(lambda: found()[0].status is not SnapshotStatus.CREATING, f"{name} is made")
        return found()[0]


class TargetContract:
    """The promises; a subclass has a fixture ``place``."""

    def test_an_application_that_is_not_there_is_said_to_be_so(self, place: Place) -> None:
        with pytest.raises(NoApplicationError):
            place.target.describe()

    def test_a_new_one_is_ready_and_has_what_it_was_given(self, place: Place) -> None:
        place.created()
        seen = place.target.describe()
        assert (seen.status, seen.version, seen.configuration) == (Status.READY, 1, place.one)
        with pytest.raises(TargetError):
            place.target.create_snapshot("of-nothing")

    def test_a_ready_one_is_updated_without_being_started(self, place: Place) -> None:
        place.created()
        other = place.other
        place.target.update(place.target.describe(), other, place.files[other.release], LATEST)
        place.settled(Status.READY)
        seen = place.target.describe()
        assert (seen.version, seen.configuration) == (2, other)
        assert place.target.describe_version(1) == place.one

    def test_from_start_to_stop(self, place: Place) -> None:
        """In one, since a start takes its time: snapshots, a stale order, an update, a rollback,
        both kinds of stop."""
        target, one, other = place.target, place.one, place.other
        place.running()
        seen = target.describe()

        target.create_snapshot("first")
        assert place.snapshot("first").version == 1
        assert place.snapshot("first").status is SnapshotStatus.READY

        # An order on top of what is no longer there changes nothing.
        stale = replace(seen, version=7, token="stale")
        with pytest.raises(ConcurrentChangeError):
            target.update(stale, other, place.files[other.release], LATEST)
        assert target.describe().configuration == one

        target.update(seen, other, place.files[other.release], LATEST)
        place.settled(Status.RUNNING)
        seen = target.describe()
        assert (seen.version, seen.configuration) == (2, other)
        # One was made at the stop, of the former version.
        assert [s.version for s in target.list_snapshots()] == [1, 1]
        with pytest.raises((BusyError, TargetError)):
            target.start(LATEST)

        target.roll_back(seen)
        place.settled(Status.RUNNING)
        seen = target.describe()
        assert (seen.version, seen.configuration, seen.rolled_back_from) == (3, one, 2)

        target.stop(force=True)
        place.settled(Status.READY)
        assert len(target.list_snapshots()) == 2
        with pytest.raises(TargetError):
            target.start(Restore(RestoreKind.CUSTOM, "none-of-that-name"))
        place.settled(Status.READY)

        target.start(Restore(RestoreKind.CUSTOM, "first"))
        place.settled(Status.RUNNING)
        target.stop(force=False)
        place.settled(Status.READY)
        assert target.list_snapshots()[-1].version == 3

        target.delete_snapshot(place.snapshot("first"))
        place.until(lambda: len(target.list_snapshots()) == 2, "the snapshot goes")
