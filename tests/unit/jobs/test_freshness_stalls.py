"""A partition that does not move is not waited for indefinitely."""

from __future__ import annotations

from jobs.freshness.stalls import STALLED_SECONDS, UNSTARTED_SECONDS, Stalls

USERS, ITEMS = ("users", 0), ("songs", 0)
START = 1000.0
LATER = 0.001


def test_a_partition_at_its_end_is_never_stalled() -> None:
    """However long nothing is published."""
    stalls = Stalls()
    for now in (START, START + UNSTARTED_SECONDS, START + 10 * UNSTARTED_SECONDS):
        assert stalls.check(USERS, 5, 5, is_started=False, now=now) == (5, False)
    assert stalls.given_up == {}


def test_a_rest_that_nobody_begins_to_read_is_given_up() -> None:
    """The rest of that time: what is published later is waited for."""
    stalls = Stalls()
    assert stalls.check(USERS, 0, 5, is_started=False, now=START) == (0, False)
    limit = START + UNSTARTED_SECONDS
    assert stalls.check(USERS, 0, 5, is_started=False, now=limit - LATER) == (0, False)
    assert stalls.check(USERS, 0, 5, is_started=False, now=limit) == (5, False)
    assert stalls.given_up == {USERS: 5}
    assert stalls.check(USERS, 0, 6, is_started=False, now=limit + LATER) == (5, False)


def test_a_stalled_partition_releases_one_event_and_is_then_given_up() -> None:
    """A barrier may wait behind the event; when that was not it, the rest are no records."""
    stalls, now = Stalls(), START
    assert stalls.check(USERS, 2, 3, is_started=True, now=now) == (2, False)
    now += STALLED_SECONDS
    assert stalls.check(USERS, 2, 3, is_started=True, now=now - LATER) == (2, False)
    assert stalls.check(USERS, 2, 3, is_started=True, now=now) == (2, True)
    assert stalls.check(USERS, 2, 3, is_started=True, now=now + LATER) == (2, False)
    now += STALLED_SECONDS
    assert stalls.check(USERS, 2, 3, is_started=True, now=now) == (3, False)
    assert stalls.given_up == {USERS: 3}


def test_a_partition_that_moves_is_waited_for_anew() -> None:
    """Each record read begins the time again, and the next stall releases an event again."""
    stalls, now = Stalls(), START
    stalls.check(USERS, 2, 9, is_started=True, now=now)
    assert stalls.check(USERS, 2, 9, is_started=True, now=now + STALLED_SECONDS) == (2, True)
    now += STALLED_SECONDS + LATER
    assert stalls.check(USERS, 3, 9, is_started=True, now=now) == (3, False)
    assert stalls.check(USERS, 3, 9, is_started=True, now=now + STALLED_SECONDS) == (3, True)


def test_a_recreated_topic_is_waited_for_anew() -> None:
    """Its offsets begin again: neither an old time nor what was given up of it counts."""
    stalls, now = Stalls(), START
    stalls.check(USERS, 0, 5, is_started=True, now=now)
    stalls.check(USERS, 5, 5, is_started=True, now=now)
    now += 10 * UNSTARTED_SECONDS
    assert stalls.check(USERS, 0, 3, is_started=True, now=now) == (0, False)

    stalls.check(ITEMS, 0, 5, is_started=False, now=now)
    now += UNSTARTED_SECONDS
    assert stalls.check(ITEMS, 0, 5, is_started=False, now=now) == (5, False)
    assert stalls.check(ITEMS, 0, 3, is_started=False, now=now + LATER) == (0, False)
    assert stalls.given_up == {}


def test_partitions_stall_independently_and_a_reset_waits_for_all_again() -> None:
    """A restarted job reads again."""
    stalls = Stalls()
    for partition in (USERS, ITEMS):
        stalls.check(partition, 0, 5, is_started=False, now=START)
    limit = START + UNSTARTED_SECONDS
    assert [
        stalls.check(partition, 0, 5, is_started=False, now=limit) for partition in (USERS, ITEMS)
    ] == [(5, False), (5, False)]
    stalls.reset()
    assert stalls.check(USERS, 0, 5, is_started=False, now=limit) == (0, False)
    assert stalls.given_up == {}
