"""Records as entries of `_bulk`, and every limit of `_bulk`.

Pure. An event is written once and never changes: its id is the event's, so that writing it again is
harmless. A trend is replaced while its window grows: it has a version, and OpenSearch keeps the
newest in every order of arrival (`version_type: external_gte`).

"Bulk" below is the page "Bulk API" of the OpenSearch documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

from connectors.delivery import Rejected
from connectors.documents import json_line

MAX_ID_BYTES: Final = 512  # Bulk: "the document _id must be 512 bytes or less in size"
MAX_VERSION: Final = 2**63 - 1  # a Java long
DOCUMENTS_PER_CALL: Final = 1_000
BYTES_PER_CALL: Final = 5 * 1024 * 1024
"""The OpenSearch documentation advises 5 to 15 MiB to begin with; Amazon OpenSearch Service accepts
at most 10 MiB a request on small instances (Developer Guide, network quotas)."""

EVENTS_INDEX_PREFIX: Final = "tunemesh-events-"
LATE_EVENTS_INDEX: Final = f"{EVENTS_INDEX_PREFIX}late"
MAX_AGE_DAYS: Final = 31
"""Events that were published later than that after they occurred share an index."""

TRENDS_INDEX: Final = "tunemesh-trends"

DIMENSIONS: Final = ("item", "genre", "item_type", "country")
"""The dimensions by which plays are counted."""

_MS_A_DAY: Final = 86_400_000
_LAST_DAY: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1000 // _MS_A_DAY


@dataclass(frozen=True, slots=True)
class BulkEntry:
    """One document, converted and checked: index, id, version, and its two lines of a bulk call."""

    index: str
    id: str
    version: int | None
    """None: it replaces an existing document."""
    lines: bytes


Convert: TypeAlias = Callable[[Mapping[str, Any]], BulkEntry | Rejected]


def bulk_entry(
    index: str, document_id: str, version: int | None, document: Mapping[str, Any]
) -> BulkEntry | Rejected:
    """The entry for a document of any kind, or why it has no JSON text."""
    action: dict[str, Any] = {"_index": index, "_id": document_id}
    if version is not None:
        action |= {"version": version, "version_type": "external_gte"}
    first, second = json_line({"index": action}), json_line(document)
    if isinstance(first, Rejected):
        return first
    if isinstance(second, Rejected):
        return second
    return BulkEntry(index, document_id, version, first + b"\n" + second + b"\n")


def event_entry(record: Mapping[str, Any]) -> BulkEntry | Rejected:
    """An enriched interaction, as the contract `interactions-enriched` has it, for the index of its
    day (UTC, by `occurred_at`), or for the one of late events: a producer's clock does not decide
    how many indices exist.

    Null fields are left out: a query for "does not exist" finds them either way. The message of a
    rejection names the field, never its value.
    """
    occurred_at = record.get("occurred_at")
    problem = _id_problem("event_id", record.get("event_id"))
    if problem is not None:
        return Rejected("InvalidEvent", problem)
    if type(occurred_at) is not int or not 0 <= occurred_at // _MS_A_DAY <= _LAST_DAY:
        return Rejected(
            "InvalidEvent", "occurred_at is not a number of milliseconds from 1970 to 9999"
        )
    published_at = record.get("published_at")
    if type(published_at) is not int:
        return Rejected("InvalidEvent", "published_at is not a number of milliseconds since 1970")
    is_late = published_at - occurred_at > MAX_AGE_DAYS * _MS_A_DAY
    index = LATE_EVENTS_INDEX if is_late else _events_index(occurred_at // _MS_A_DAY)
    return bulk_entry(index, record["event_id"], None, _without_nulls(record))


def trend_entry(record: Mapping[str, Any]) -> BulkEntry | Rejected:
    """The counts of one window and one value of a dimension.

    `record` has window_start (milliseconds since 1970), dimension (one of `DIMENSIONS`), key, label
    or None, plays, skips, listeners, completion (mean, 0 to 1, or None) and version: a later state
    of the same window has a higher one, or the same. The id consists of dimension, window and key.
    """
    dimension, key, completion = (record.get(n) for n in ("dimension", "key", "completion"))
    if dimension not in DIMENSIONS:
        return Rejected("InvalidTrend", f"dimension is none of {', '.join(DIMENSIONS)}")
    for name in ("window_start", "plays", "skips", "listeners", "version"):
        value = record.get(name)
        if type(value) is not int or not 0 <= value <= MAX_VERSION:
            return Rejected("InvalidTrend", f"{name} is not a whole number from 0")
    if completion is not None and not (
        type(completion) in (int, float) and 0.0 <= completion <= 1.0
    ):
        return Rejected("InvalidTrend", "completion is not a number from 0 to 1")
    problem = _id_problem("key", key)
    if problem is not None:
        return Rejected("InvalidTrend", problem)
    document_id = f"{dimension}/{record['window_start']}/{key}"
    problem = _id_problem("dimension, window_start and key", document_id)
    if problem is not None:
        return Rejected("InvalidTrend", problem)
    return bulk_entry(TRENDS_INDEX, document_id, record["version"], _without_nulls(record))


def bulk_body(entries: Sequence[BulkEntry]) -> bytes:
    """The body of one bulk call: newline-delimited JSON, two lines a document."""
    return b"".join([entry.lines for entry in entries])


@lru_cache(maxsize=1_024)
def _events_index(day: int) -> str:
    return f"{EVENTS_INDEX_PREFIX}{datetime.fromtimestamp(day * 86_400, UTC):%Y.%m.%d}"


def _without_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in record.items()
        if value is not None
    }


def _id_problem(name: str, value: object) -> str | None:
    if type(value) is not str:
        return f"{name} is missing" if value is None else f"{name} is not a text"
    if not value:
        return f"{name} is empty"
    # A lone surrogate is found when the entry is written.
    size = len(value.encode(errors="replace"))
    return f"{name} has {size} bytes, at most {MAX_ID_BYTES}" if size > MAX_ID_BYTES else None
