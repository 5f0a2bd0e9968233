"""When interactions may start to flow: users and items first, told by a clock of the test's own."""

from __future__ import annotations

import pytest

from jobs.cold_start import (
    EMPTY_SECONDS,
    LIMIT_SECONDS,
    LIVE_MS,
    OPEN_SECONDS,
    QUIET_SECONDS,
    RESTART_SECONDS,
    DimensionsProgress,
    Progress,
)
from schemas.contracts import Role

WALL_MS = 1_780_000_000_000
OLD, FRESH = WALL_MS - LIVE_MS - 1, WALL_MS - LIVE_MS
"""Published before the job came to it, and just now."""


class Clock:
    """Time that passes only in ``sleep``; what happens at a moment is given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[float, object]] = []

    def at(self, moment: float, action: object) -> None:
        self.events.append((moment, action))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [event for event in self.events if event[0] <= self.now]
        self.events = [event for event in self.events if event[0] > self.now]
        for _, action in due:
            assert callable(action)
            action()


def wait(dimensions: DimensionsProgress, clock: Clock) -> tuple[bool, float]:
    """Whether it opened by itself, and when."""
    opened = dimensions.wait_until_read(clock.monotonic, clock.sleep)
    return opened, clock.now


def both(dimensions: DimensionsProgress, now: float = 0.0) -> tuple[Progress, Progress]:
    return dimensions.opened(Role.USER, now), dimensions.opened(Role.ITEM, now)


def test_empty_topics_hold_interactions_back_for_a_moment_only() -> None:
    """A consumer that is still connecting looks the same, hence the moment."""
    clock, dimensions = Clock(), DimensionsProgress()
    both(dimensions)
    opened, when = wait(dimensions, clock)
    assert opened
    assert when == pytest.approx(EMPTY_SECONDS, abs=0.1)


def test_a_backlog_is_waited_for_until_it_pauses() -> None:
    """However long it takes: here 60 s, with a record every half second."""
    clock, dimensions = Clock(), DimensionsProgress()
    users, items = both(dimensions)
    for step in range(120):
        clock.at(step / 2, lambda: users.record(OLD, clock.now, WALL_MS))
    clock.at(1.0, lambda: items.record(OLD, clock.now, WALL_MS))
    opened, when = wait(dimensions, clock)
    assert opened
    assert when == pytest.approx(59.5 + QUIET_SECONDS, abs=0.2)


def test_live_records_hold_nothing_back() -> None:
    """Users that change all the time are no backlog."""
    clock, dimensions = Clock(), DimensionsProgress()
    users, items = both(dimensions)
    users.record(FRESH, 0.0, WALL_MS)
    items.record(FRESH, 0.0, WALL_MS)
    assert wait(dimensions, clock) == (True, 0.0)


def test_a_live_record_ends_no_wait_for_the_backlog() -> None:
    """It may come from another partition."""
    progress = Progress(Role.USER, 0.0)
    progress.record(OLD, 1.0, WALL_MS)
    progress.record(FRESH, 1.1, WALL_MS)
    assert not progress.is_read(1.0 + QUIET_SECONDS - 0.1)
    assert progress.is_read(1.0 + QUIET_SECONDS)


def test_users_alone_are_not_enough() -> None:
    """Nor items alone: the function of the other one is still to open."""
    for role in (Role.USER, Role.ITEM):
        clock, dimensions = Clock(), DimensionsProgress()
        dimensions.opened(role, 0.0)
        other = Role.ITEM if role is Role.USER else Role.USER
        clock.at(7.0, lambda d=dimensions, o=other: d.opened(o, 7.0))
        opened, when = wait(dimensions, clock)
        assert opened
        assert when == pytest.approx(7.0 + EMPTY_SECONDS, abs=0.2)


def test_every_function_of_the_worker_is_waited_for() -> None:
    """A worker may run several of a role."""
    clock, dimensions = Clock(), DimensionsProgress()
    both(dimensions)
    second = dimensions.opened(Role.USER, 0.0)
    second.record(OLD, 0.0, WALL_MS)
    clock.at(8.0, lambda: second.record(OLD, clock.now, WALL_MS))
    assert wait(dimensions, clock)[1] == pytest.approx(EMPTY_SECONDS, abs=0.1)
    second.record(OLD, clock.now, WALL_MS)
    assert not dimensions.are_read(clock.now)


def test_a_closed_function_is_forgotten() -> None:
    """A restarted job waits anew, for its own functions."""
    dimensions = DimensionsProgress()
    for progress in both(dimensions):
        progress.record(FRESH, 0.0, WALL_MS)
        dimensions.closed(progress)
    assert not dimensions.are_read(0.0)
    both(dimensions, now=100.0)
    assert not dimensions.are_read(100.0)
    assert dimensions.are_read(100.0 + RESTART_SECONDS)


def test_a_worker_that_ran_before_waits_for_new_ones() -> None:
    """They are still loading Python, and no source of theirs holds anything back."""
    dimensions = DimensionsProgress()
    for progress in both(dimensions):
        dimensions.closed(progress)
    for progress in both(dimensions, now=100.0):
        progress.record(FRESH, 100.0, WALL_MS)
    assert not dimensions.are_read(100.0 + RESTART_SECONDS - 0.1)
    assert dimensions.are_read(100.0 + RESTART_SECONDS)


def test_where_users_and_items_never_open_interactions_flow_all_the_same() -> None:
    """Other workers may have them; the alignment of the sources is left."""
    clock = Clock()
    opened, when = wait(DimensionsProgress(), clock)
    assert not opened
    assert when == pytest.approx(OPEN_SECONDS, abs=0.2)


def test_where_only_users_open_they_are_read_before_interactions_flow() -> None:
    """In process mode a function opens with its first record: without items it never does."""
    clock, dimensions = Clock(), DimensionsProgress()
    users = dimensions.opened(Role.USER, 0.0)
    for second in range(40):
        clock.at(float(second), lambda: users.record(OLD, clock.now, WALL_MS))
    opened, when = wait(dimensions, clock)
    assert not opened
    assert when == pytest.approx(39.0 + QUIET_SECONDS, abs=0.2)


def test_a_backlog_without_end_holds_interactions_back_up_to_the_limit() -> None:
    """Rather late than never."""
    clock, dimensions = Clock(), DimensionsProgress()
    users, _ = both(dimensions)
    for second in range(int(LIMIT_SECONDS) + 10):
        clock.at(float(second), lambda: users.record(OLD, clock.now, WALL_MS))
    opened, when = wait(dimensions, clock)
    assert not opened
    assert when == pytest.approx(LIMIT_SECONDS, abs=0.2)
