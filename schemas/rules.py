"""What a record must be for its consumers to use it, beyond the types of its schema.

The decode step, the back ends, the exports and the bootstrap apply the same rules, so that a record
that one of them accepts is accepted by all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, Role
from schemas.records import Interaction

MAX_ID_LENGTH = 256
"""Characters of a user, item or session id (Personalize: userId, itemId and sessionId)."""

MAX_AHEAD_MS = 24 * 3600 * 1000
"""How far a record's own time may lie after its publication: a clock a day off is tolerated."""

MAX_CLOCK_AHEAD_MS = 5 * 60_000
"""A version further ahead of its publication is counted: its producer's clock is wrong."""

MIN_TIMESTAMP_MS = -62_135_596_800_000
MAX_TIMESTAMP_MS = 253_402_300_799_999
"""Bounds of a timestamp: the years 1 to 9999, which datetimes, SQL columns and Parquet hold."""


FEBRUARY_1970_MS = 31 * 86_400_000
"""No interaction is from January 1970; seconds, read as milliseconds, are until the year 2054."""

MIN_SECONDS, _MAX_SECONDS = 1_000_000_000, 4_102_444_800
"""From 2001 to 2100: the moments that a number in a wrong unit probably means."""

_PER_SECOND = {
    "seconds": 1,
    "milliseconds": 10**3,
    "microseconds": 10**6,
    "nanoseconds": 10**9,
}


def identifier_fields(contract: Contract) -> tuple[str, ...]:
    """Fields that must be present and not empty for a record to be usable (``missing_id``)."""
    if contract.user is not None:
        return (contract.user.user_id,)
    if contract.item is not None:
        return (contract.item.item_id,)
    if contract.role in (Role.INTERACTION, Role.ENRICHED):
        return ("event_id", "session_id", "item_id")
    return ()


def missing_identifier(contract: Contract, record: Mapping[str, Any]) -> str | None:
    """The first identifier that a record lacks; None when it has all."""
    return next((name for name in identifier_fields(contract) if not record.get(name)), None)


def check_id(field: str, value: str | None) -> str:
    """Return the id; raise InvalidRecord(missing_id, invalid_value) for one that none may have."""
    if not value:
        raise InvalidRecord(Reason.MISSING_ID, f"{field} is empty", field)
    if len(value) > MAX_ID_LENGTH:
        raise InvalidRecord(
            Reason.INVALID_VALUE,
            f"{field} has {len(value)} characters, at most {MAX_ID_LENGTH} are allowed",
            field,
        )
    if value[0] < " ":
        # A control character in front marks keys of our own (jobs.decode.ANONYMOUS).
        raise InvalidRecord(Reason.INVALID_VALUE, f"{field} starts with a control character", field)
    return value


def probable_unit(timestamp: int, expected: str = "milliseconds") -> str | None:
    """The unit that a timestamp probably has instead of the expected one; None if it may be right.

    It may be right outside of January 1970 and up to the year 9999.
    """
    moment_ms = timestamp * 1000 // _PER_SECOND[expected]
    if moment_ms < 0 or FEBRUARY_1970_MS <= moment_ms <= MAX_TIMESTAMP_MS:
        return None
    return next(
        (
            unit
            for unit, count in _PER_SECOND.items()
            if unit != expected and MIN_SECONDS <= timestamp // count < _MAX_SECONDS
        ),
        None,
    )


def check_unit(field: str, timestamp: int) -> None:
    """Raise InvalidRecord(invalid_value) for a timestamp that is not in milliseconds."""
    unit = probable_unit(timestamp)
    if unit is not None:
        raise InvalidRecord(Reason.INVALID_VALUE, f"{field} is {timestamp}{_hint(unit)}", field)


def _hint(unit: str | None) -> str:
    return "" if unit is None else f": probably {unit}, expected milliseconds since 1970"


def check_created(field: str, value: int | None, *, may_be_early: bool) -> int | None:
    """Return when a user or item was created; raise InvalidRecord for a time that is none.

    A work ``may_be_early``: from January 1970, where seconds lie.
    """
    if value is not None and not may_be_early:
        check_unit(field, value)
    return check_timestamp(field, value)


def check_dimension(contract: Contract, record: Mapping[str, Any], published_ms: int) -> None:
    """Raise InvalidRecord for a user or item with a time that cannot be used."""
    mapping = contract.item or contract.user
    assert mapping is not None, contract.name
    if mapping.updated is not None and record[mapping.updated] is not None:
        check_version(record[mapping.updated], published_ms, mapping.updated)
    if mapping.created is not None and not (mapping.deleted and record[mapping.deleted]):
        check_created(
            mapping.created, record[mapping.created], may_be_early=contract.item is not None
        )


def check_interaction(record: Interaction, published_ms: int) -> None:
    """Raise InvalidRecord for an interaction that no consumer could use."""
    check_id("event_id", record["event_id"])
    check_id("session_id", record["session_id"])
    check_id("item_id", record["item_id"])
    if record["user_id"] is not None:
        check_id("user_id", record["user_id"])
    occurred_at = record["occurred_at"]
    unit = probable_unit(occurred_at)
    if 0 <= occurred_at < FEBRUARY_1970_MS:
        raise InvalidRecord(
            Reason.INVALID_VALUE,
            f"occurred_at is {occurred_at}, a moment in January 1970{_hint(unit or 'seconds')}",
            "occurred_at",
        )
    if occurred_at > published_ms + MAX_AHEAD_MS:
        raise InvalidRecord(
            Reason.FUTURE_TIMESTAMP,
            f"occurred_at is {occurred_at}, more than a day after the record was published"
            f" ({published_ms}){_hint(unit)}",
            "occurred_at",
        )
    check_timestamp("occurred_at", occurred_at)


def check_timestamp(field: str, value: int | None) -> int | None:
    """Return the timestamp; raise InvalidRecord for one outside the years 1 to 9999."""
    if value is not None and not MIN_TIMESTAMP_MS <= value <= MAX_TIMESTAMP_MS:
        raise InvalidRecord(
            Reason.INVALID_VALUE,
            f"{field} is {value}, which is not in the years 1 to 9999{_hint(probable_unit(value))}",
            field,
        )
    return value


def is_usable_interaction(
    event_id: str,
    user_id: str | None,
    session_id: str,
    item_id: str,
    occurred_at: int,
    published_ms: int,
) -> bool:
    """Whether :func:`check_interaction` allows an interaction: a third of its time, no reason."""
    return (
        event_id >= " "
        and session_id >= " "
        and item_id >= " "
        and len(event_id) <= MAX_ID_LENGTH
        and len(session_id) <= MAX_ID_LENGTH
        and len(item_id) <= MAX_ID_LENGTH
        and (user_id is None or (user_id >= " " and len(user_id) <= MAX_ID_LENGTH))
        and MIN_TIMESTAMP_MS <= occurred_at <= MAX_TIMESTAMP_MS
        and occurred_at <= published_ms + MAX_AHEAD_MS
        and not 0 <= occurred_at < FEBRUARY_1970_MS
    )


def check_version(version: int, published_ms: int, field: str = "updated_at") -> None:
    """Raise InvalidRecord for a version before 1970, a day after its publication, or in seconds."""
    if version < 0 or version > published_ms + MAX_AHEAD_MS:
        raise InvalidRecord(
            Reason.FUTURE_TIMESTAMP if version > 0 else Reason.INVALID_VALUE,
            f"{field} is {version}, the record was published at {published_ms}"
            f"{_hint(probable_unit(version))}",
            field,
        )
    if version != published_ms:
        check_unit(field, version)


def completion(record: Mapping[str, Any]) -> float | None:
    """The share of its item that an enriched event has played, 0 to 1 with four digits.

    None for a missing or non-positive play time or length. Computed in whole numbers, so that SQL
    comes to the same digits (batch.bootstrap.rules).
    """
    played = record.get("played_ms")
    item = record.get("item")
    duration = item.get("duration_ms") if item else None
    if not played or not duration or played < 0 or duration < 0:
        return None
    share: int = (20_000 * played + duration) // (2 * duration)
    return min(1.0, share / 10_000)
