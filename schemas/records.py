"""Records as the codec reads them. Generated: `python -m schemas.record_types`."""

from __future__ import annotations

from typing import TypedDict


class DeadLetter(TypedDict):
    """A record of the contract dead-letters."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    payload: bytes | None
    step: str
    error_code: str
    message: str
    event_id: str | None
    first_seen: int


class Deletion(TypedDict):
    """A record of the contract deletions."""

    dataset: str
    id: str
    deleted_at: int
    origin: str


class Interaction(TypedDict):
    """A record of the contract interactions."""

    event_id: str
    user_id: str | None
    session_id: str
    item_id: str
    item_type: str | None
    event_type: str
    played_ms: int | None
    device: str | None
    occurred_at: int
    recommendation_id: str | None
    impression: list[str] | None


class EnrichedUser(TypedDict):
    """The user as known when the event passed."""

    country: str | None
    age_band: str | None
    subscription: str | None
    created_at: int | None
    origin: str


class EnrichedItem(TypedDict):
    """The item as known when the event passed, whatever domain it is from."""

    item_type: str
    title: str
    creator: str | None
    genres: list[str]
    duration_ms: int | None
    language: str | None
    created_at: int | None
    origin: str


class EnrichedInteraction(TypedDict):
    """A record of the contract interactions-enriched."""

    event_id: str
    user_id: str | None
    session_id: str
    item_id: str
    item_type: str | None
    event_type: str
    played_ms: int | None
    device: str | None
    occurred_at: int
    recommendation_id: str | None
    impression: list[str] | None
    origin: str
    published_at: int
    user: EnrichedUser | None
    item: EnrichedItem | None


class Trend(TypedDict):
    """A record of the contract trends."""

    dimension: str
    key: str
    label: str | None
    window_start: int
    plays: int
    skips: int
    listeners: int
    completion: float | None
    version: int
