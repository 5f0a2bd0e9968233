"""What a record must be, beyond the types of its schema."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.invalid import InvalidRecord, Reason
from schemas.records import Interaction
from schemas.rules import (
    FEBRUARY_1970_MS,
    MAX_AHEAD_MS,
    MAX_ID_LENGTH,
    MAX_TIMESTAMP_MS,
    MIN_TIMESTAMP_MS,
    check_id,
    check_interaction,
    completion,
    is_usable_interaction,
    probable_unit,
)


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


@pytest.mark.parametrize("occurred_at", [MIN_TIMESTAMP_MS - 1, -(2**63), MAX_TIMESTAMP_MS + 1])
def test_an_interaction_outside_of_the_calendar_is_refused(occurred_at: int) -> None:
    """Exports refuse it, and readers of logical types have no such date."""
    record = {"event_id": "e", "user_id": None, "session_id": "s", "item_id": "i"}
    named = cast("Interaction", {**record, "occurred_at": occurred_at})
    with pytest.raises(InvalidRecord, match=r"^invalid_value: occurred_at is .* years 1 to 9999"):
        check_interaction(named, MAX_TIMESTAMP_MS)


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


PUBLISHED_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("timestamp", "expected", "unit"),
    [
        (PUBLISHED_MS, "milliseconds", None),
        (PUBLISHED_MS // 1000, "milliseconds", "seconds"),
        (PUBLISHED_MS * 1000, "milliseconds", "microseconds"),
        (PUBLISHED_MS * 10**6, "milliseconds", "nanoseconds"),
        (PUBLISHED_MS, "microseconds", "milliseconds"),
        (PUBLISHED_MS // 1000, "microseconds", "seconds"),
        (PUBLISHED_MS, "nanoseconds", "milliseconds"),
        (0, "milliseconds", None),
        (1, "milliseconds", None),
        (FEBRUARY_1970_MS, "milliseconds", None),
        (-PUBLISHED_MS, "milliseconds", None),
        (MAX_TIMESTAMP_MS, "milliseconds", None),
    ],
)
def test_the_unit_of_a_timestamp_is_guessed_where_it_cannot_be_right(
    timestamp: int, expected: str, unit: str | None
) -> None:
    """In January 1970 and after the year 9999, and if another unit makes it a time of today."""
    assert probable_unit(timestamp, expected) == unit


_ids = st.text(max_size=2) | st.sampled_from(["x" * MAX_ID_LENGTH, "é" * (MAX_ID_LENGTH + 1), "u"])


@given(
    ids=st.fixed_dictionaries(
        {"event_id": _ids, "user_id": st.none() | _ids, "session_id": _ids, "item_id": _ids}
    ),
    published_ms=st.sampled_from([-1, PUBLISHED_MS, MAX_TIMESTAMP_MS, 2**62]),
    ahead=st.sampled_from([-(2**61), -(10**14), -1, 0, MAX_AHEAD_MS, MAX_AHEAD_MS + 1])
    | st.sampled_from([-1, 0, FEBRUARY_1970_MS - 1, FEBRUARY_1970_MS]).map(
        lambda occurred_ms: occurred_ms - PUBLISHED_MS
    ),
)
def test_the_quick_test_of_an_interaction_is_that_of_its_rules(
    ids: dict[str, Any], published_ms: int, ahead: int
) -> None:
    """The decode step asks for the reason of those alone that the quick test refuses."""
    record = {**ids, "occurred_at": published_ms + ahead}
    try:
        check_interaction(cast("Interaction", record), published_ms)
        usable = True
    except InvalidRecord:
        usable = False
    assert is_usable_interaction(**record, published_ms=published_ms) is usable
