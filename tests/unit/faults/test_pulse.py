"""How the fault suite tells when a destination has caught up."""

from __future__ import annotations

from tests.faults.pulse import Beat, recovery_seconds

SENT = [float(second) for second in range(10)]
"""An event a second from 0 on."""


def beats(*counts: int) -> list[Beat]:
    return [Beat(float(second), {"search": count}) for second, count in enumerate(counts)]


def test_what_keeps_pace_was_never_behind() -> None:
    assert recovery_seconds(beats(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), SENT, since=4.0) == 0.0


def test_a_silence_counts_until_the_last_look_that_was_behind() -> None:
    counts = (0, 1, 2, 2, 2, 2, 2, 2, 2, 10, 10, 10, 10, 10)
    assert recovery_seconds(beats(*counts), SENT, since=4.0) == 4.0


def test_the_slowest_destination_counts() -> None:
    both = [
        Beat(float(second), {"fast": 10, "slow": 0 if second < 7 else 10}) for second in range(9)
    ]
    assert recovery_seconds(both, SENT, since=4.0) == 2.0


def test_what_never_arrives_is_left_to_the_reconciliation() -> None:
    assert recovery_seconds(beats(0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 7), SENT, since=4.0) == 0.0
