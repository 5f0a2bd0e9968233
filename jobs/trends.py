"""What an enriched interaction adds to the trends. Pure."""

from __future__ import annotations

from typing import NamedTuple

from schemas.codec import Record
from schemas.rules import completion

MINUTE_MS = 60_000

LATEST_MS = 10 * MINUTE_MS
"""An event published later than that after it occurred is not in the trends."""

KEEP_MS = LATEST_MS + 60 * MINUTE_MS
"""How long counts and seen event_ids are kept after their last change: an event published in time
may be that much behind in the job, and a duplicate that much later."""

SEPARATOR = "\x1f"

PLAYED = frozenset({"play", "complete"})
SKIPPED = frozenset({"skip"})


class TrendFacts(NamedTuple):
    """What one event adds; ``facets`` are texts: dimension, value, label, U+001F between them."""

    event_id: str
    minute: int
    listener: str
    played: int
    skipped: int
    completion: float | None
    facets: tuple[str, ...]


def trend_facts(record: Record) -> TrendFacts | None:
    """The facts of an enriched interaction; None when it is too late to count."""
    occurred_at = record["occurred_at"]
    if record["published_at"] - occurred_at > LATEST_MS or occurred_at < 0:
        return None
    item, user = record["item"] or {}, record["user"] or {}
    facets = [("item", record["item_id"], item.get("title"))]
    facets += [("genre", genre, None) for genre in dict.fromkeys(item.get("genres") or ())]
    facets.append(("item_type", item.get("item_type") or record["item_type"], None))
    facets.append(("country", user.get("country"), None))
    user_id = record["user_id"]
    return TrendFacts(
        event_id=record["event_id"],
        minute=occurred_at // MINUTE_MS * MINUTE_MS,
        # A session is no user, even where the ids look the same.
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
