"""What a record must be, beyond the types of its schema."""

from __future__ import annotations

import pytest

from schemas.invalid import InvalidRecord, Reason
from schemas.rules import MAX_ID_LENGTH, check_id, completion


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", Reason.MISSING_ID),
        (None, Reason.MISSING_ID),
        ("x" * (MAX_ID_LENGTH + 1), Reason.INVALID_VALUE),
        ("\x1fsession", Reason.INVALID_VALUE),
        ("\x00", Reason.INVALID_VALUE),
    ],
)
def test_an_id_that_cannot_be_one_is_refused(value: str | None, reason: Reason) -> None:
    """Empty, too long for Personalize, or with our own mark in front."""
    with pytest.raises(InvalidRecord, match="the_field") as caught:
        check_id("the_field", value)
    assert caught.value.reason is reason


@pytest.mark.parametrize("value", ["x", " ", "é" * MAX_ID_LENGTH, "\ud7ff", "a\x1f", "null"])
def test_any_other_id_passes_as_it_is(value: str) -> None:
    """Blanks and control characters inside are allowed."""
    assert check_id("the_field", value) == value


@pytest.mark.parametrize(
    ("played", "duration", "value"),
    [
        (305_000, 305_000, 1.0),
        (400_000, 305_000, 1.0),
        (1, 3, 0.3333),
        (1, 300_000, 0.0),
        (0, 300_000, None),
        (None, 300_000, None),
        (90_000, None, None),
        (90_000, 0, None),
        (-5, 300_000, None),
        (5, -300_000, None),
    ],
)
def test_completion(played: int | None, duration: int | None, value: float | None) -> None:
    """The share that was played, at most the whole, absent where it cannot be known."""
    record = {"played_ms": played, "item": {"duration_ms": duration}}
    assert completion(record) == value
