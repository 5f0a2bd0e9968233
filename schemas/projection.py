"""A user or item of any domain as the enriched interaction carries it.

The mapping is in the contract (``item:`` and ``user:`` in contract.yaml), so that a new item domain
needs no code. A projection is what the enrichment keeps as state: a column added upstream does not
touch it.
"""

from __future__ import annotations

from typing import Any

from schemas.codec import Record
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, ItemMapping, UserMapping

MAX_ID_LENGTH = 256
"""Characters of a user, item or session id (Personalize: userId, itemId and sessionId)."""

MAX_AHEAD_MS = 24 * 3600 * 1000
"""How far a record's own time may lie after its publication: a clock a day off is tolerated."""


def record_id(contract: Contract, record: Record) -> str:
    """The id of a user or item record; raises InvalidRecord(missing_id, invalid_value)."""
    mapping = contract.item or contract.user
    assert mapping is not None, contract.name
    field = mapping.item_id if isinstance(mapping, ItemMapping) else mapping.user_id
    return checked_id(field, record[field])


def checked_id(field: str, value: str | None) -> str:
    """An id that is neither empty nor too long; raises InvalidRecord(missing_id, invalid_value)."""
    if not value:
        raise InvalidRecord(Reason.MISSING_ID, f"{field} is empty")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidRecord(
            Reason.INVALID_VALUE,
            f"{field} has {len(value)} characters, at most {MAX_ID_LENGTH} are allowed",
        )
    if value[0] < " ":
        # A control character in front marks keys of our own (jobs.decode.ANONYMOUS).
        raise InvalidRecord(Reason.INVALID_VALUE, f"{field} starts with a control character")
    return value


def check_interaction(record: Record, published_ms: int) -> None:
    """Raise InvalidRecord for an interaction that no consumer could use."""
    checked_id("event_id", record["event_id"])
    checked_id("session_id", record["session_id"])
    checked_id("item_id", record["item_id"])
    if record["user_id"] is not None:
        checked_id("user_id", record["user_id"])
    if record["occurred_at"] > published_ms + MAX_AHEAD_MS:
        raise InvalidRecord(
            Reason.FUTURE_TIMESTAMP,
            f"occurred_at is {record['occurred_at']}, more than a day after the record was"
            f" published ({published_ms})",
        )


def check_version(version: int, published_ms: int) -> None:
    """Raise InvalidRecord for an updated_at before 1970, or so late that it would win for ever."""
    if version < 0 or version > published_ms + MAX_AHEAD_MS:
        raise InvalidRecord(
            Reason.FUTURE_TIMESTAMP if version > 0 else Reason.INVALID_VALUE,
            f"updated_at is {version}, the record was published at {published_ms}",
        )


def is_deleted(contract: Contract, record: Record) -> bool:
    """Whether the record says that its user or item is gone."""
    return bool(_mapped(contract.item or contract.user, "deleted", record))


def updated_at(contract: Contract, record: Record) -> int | None:
    """When the domain changed the record, epoch milliseconds; None where it does not say."""
    moment: int | None = _mapped(contract.item or contract.user, "updated", record)
    return moment


def project_user(contract: Contract, record: Record, origin: str) -> Record:
    """The EnrichedUser of a record of the users domain."""
    mapping = contract.user
    assert mapping is not None, contract.name
    return {
        "country": _mapped(mapping, "country", record),
        "age_band": _mapped(mapping, "age_band", record),
        "subscription": _mapped(mapping, "subscription", record),
        "created_at": _mapped(mapping, "created", record),
        "origin": origin,
    }


def project_item(contract: Contract, record: Record, origin: str) -> Record:
    """The EnrichedItem of a record of any item domain; ``creator`` is the first that is known."""
    mapping = contract.item
    assert mapping is not None, contract.name
    duration = _mapped(mapping, "duration", record)
    return {
        "item_type": mapping.type,
        "title": record[mapping.title],
        "creator": next((record[name] for name in mapping.creator if record[name]), None),
        "genres": _mapped(mapping, "genres", record) or [],
        "duration_ms": None if duration is None else duration * mapping.duration_unit_ms,
        "language": _mapped(mapping, "language", record),
        "created_at": _mapped(mapping, "created", record),
        "origin": origin,
    }


def _mapped(mapping: ItemMapping | UserMapping | None, slot: str, record: Record) -> Any:
    field = getattr(mapping, slot)
    return None if field is None else record[field]
