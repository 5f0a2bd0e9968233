"""The facts that one enriched interaction adds to the trends."""

from __future__ import annotations

from typing import Any, cast

import pytest

from jobs.trends import MAX_DELAY_MS, MINUTE_MS, SEPARATOR, TrendFacts, trend_facts
from schemas.records import EnrichedInteraction

NOON = 1_780_000_020_000 // MINUTE_MS * MINUTE_MS

EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "user_id": "u-1",
    "session_id": "s-1",
    "item_id": "so-1",
    "item_type": "song",
    "event_type": "play",
    "played_ms": 30_000,
    "occurred_at": NOON + 59_999,
    "published_at": NOON + 60_500,
    "user": {"country": "PT"},
    "item": {
        "item_type": "song",
        "title": "Yellow",
        "genres": ["rock", "pop", "rock"],
        "duration_ms": 120_000,
    },
}


def event(**changes: Any) -> EnrichedInteraction:
    return cast("EnrichedInteraction", {**EVENT, **changes})


def counted(**changes: Any) -> TrendFacts:
    facts = trend_facts(event(**changes))
    assert facts is not None
    return facts


def facets(**changes: Any) -> list[list[str]]:
    return [facet.split(SEPARATOR) for facet in counted(**changes).facets]


def test_an_event_counts_in_its_minute_for_each_of_its_dimensions() -> None:
    """By when it occurred; a genre that is named twice counts once."""
    facts = counted()
    assert (facts.event_id, facts.minute, facts.listener) == ("e-1", NOON, "user/u-1")
    assert (facts.played, facts.skipped, facts.completion) == (1, 0, 0.25)
    assert facets() == [
        ["item", "so-1", "Yellow"],
        ["genre", "rock", ""],
        ["genre", "pop", ""],
        ["item_type", "song", ""],
        ["country", "PT", ""],
    ]


@pytest.mark.parametrize(
    ("event_type", "played", "skipped"),
    [("play", 1, 0), ("complete", 1, 0), ("skip", 0, 1), ("like", 0, 0)],
)
def test_plays_and_skips_are_counted_apart(event_type: str, played: int, skipped: int) -> None:
    """A like is neither; it counts for listeners only."""
    facts = counted(event_type=event_type)
    assert (facts.played, facts.skipped) == (played, skipped)


def test_unknown_dimensions_are_omitted() -> None:
    """Without item and user there are the item's id and what the event says of its type."""
    assert facets(user=None, item=None) == [["item", "so-1", ""], ["item_type", "song", ""]]
    assert facets(user=None, item=None, item_type=None) == [["item", "so-1", ""]]


def test_an_anonymous_listener_is_a_session() -> None:
    """And never the same as a user whose id looks like it."""
    assert counted(user_id=None).listener == "session/s-1"


def test_an_event_counts_up_to_the_longest_delay() -> None:
    """Ten minutes from occurring to being published count, a millisecond more does not."""
    latest = EVENT["occurred_at"] + MAX_DELAY_MS
    assert trend_facts(event(published_at=latest)) is not None
    assert trend_facts(event(published_at=latest + 1)) is None
