"""The facts that an enriched interaction adds to the trends. Pure."""

from __future__ import annotations

from typing import NamedTuple

from schemas.records import EnrichedInteraction
from schemas.rules import completion

MINUTE_MS = 60_000

MAX_DELAY_MS = 10 * MINUTE_MS
"""Between occurrence and publication; a later event is not in the trends."""

STATE_TTL_MS = MAX_DELAY_MS + 60 * MINUTE_MS
"""How long counts and seen event_ids are kept after their last change: the job may be an hour
behind on an event that was published in time, and on its duplicates."""

SEPARATOR = "\x1f"

PLAYED = frozenset({"play", "complete"})
SKIPPED = frozenset({"skip"})


class TrendFacts(NamedTuple):
    """The facts of one event; ``facets``: dimension, value and label, joined by U+001F."""

    event_id: str
    minute: int
    listener: str
    played: int
    skipped: int
    completion: float | None
    facets: tuple[str, ...]


def trend_facts(record: EnrichedInteraction) -> TrendFacts | None:
    """The facts of an enriched interaction; None if it was published too late."""
    occurred_at = record["occurred_at"]
    if record["published_at"] - occurred_at > MAX_DELAY_MS or occurred_at < 0:
        return None
    item, user = record["item"], record["user"]
    item_type = (item["item_type"] if item else None) or record["item_type"]
    facets: list[tuple[str, str | None, str | None]] = []
    facets.append(("item", record["item_id"], item["title"] if item else None))
    facets += [("genre", genre, None) for genre in dict.fromkeys(item["genres"] if item else ())]
    facets += [("item_type", item_type, None), ("country", user["country"] if user else None, None)]
    user_id = record["user_id"]
    return TrendFacts(
        event_id=record["event_id"],
        minute=occurred_at // MINUTE_MS * MINUTE_MS,
        # A session is not a user, even if their ids are equal.
        listener=f"session/{record['session_id']}" if user_id is None else f"user/{user_id}",
        played=int(record["event_type"] in PLAYED),
        skipped=int(record["event_type"] in SKIPPED),
        completion=completion(record),
        facets=tuple(
            SEPARATOR.join((dimension, value, (label or "").replace(SEPARATOR, " ")))
            for dimension, value, label in facets
            if value and SEPARATOR not in value
        ),
    )
