"""How the fault suite measures when a destination has caught up."""

from __future__ import annotations

from tests.faults.arrivals import Sample, recovery_seconds

SENT = [float(second) for second in range(10)]
"""One event per second, from 0."""


def samples(*counts: int) -> list[Sample]:
    return [Sample(float(second), {"search": count}) for second, count in enumerate(counts)]


def test_a_destination_that_keeps_up_was_never_behind() -> None:
    assert recovery_seconds(samples(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), SENT, since=4.0) == 0.0


def test_the_last_sample_that_was_behind_ends_the_recovery() -> None:
    counts = (0, 1, 2, 2, 2, 2, 2, 2, 2, 10, 10, 10, 10, 10)
    assert recovery_seconds(samples(*counts), SENT, since=4.0) == 4.0


def test_the_slowest_destination_determines_the_recovery() -> None:
    both = [
        Sample(float(second), {"fast": 10, "slow": 0 if second < 7 else 10}) for second in range(9)
    ]
    assert recovery_seconds(both, SENT, since=4.0) == 2.0


def test_events_that_never_arrive_are_not_considered() -> None:
    assert (
        recovery_seconds(samples(0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 7), SENT, since=4.0) == 0.0
    )
