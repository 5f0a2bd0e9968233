"""Comparison of a source with what Personalize has from imports and from the stream together.

Imported rows have no event id: an interaction is identified by user (None: anonymous), item, type
and second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.model import Contracts, Role
from verification.entries import Entry, Kind
from verification.personalize_events import PersonalizeReader

Identity = tuple[str | None, str, str, int]


@dataclass(slots=True)
class Expected:
    """The distinct interactions of a source by event id, and the users and items at its end."""

    contracts: Contracts
    interactions: dict[str, Identity] = field(default_factory=dict)
    records: dict[str, set[str]] = field(default_factory=lambda: {"users": set(), "items": set()})

    def add(self, entry: Entry) -> None:
        """Add an entry, in the order of the source; malformed records are ignored."""
        contract = self.contracts[entry.domain]
        if entry.kind is Kind.MALFORMED:
            return
        if contract.role is Role.INTERACTION:
            assert entry.record is not None
            self.interactions.setdefault(entry.record["event_id"], identity(entry.record))
            return
        ids = self.records["users" if contract.role is Role.USER else "items"]
        key = entry.key if entry.record is None else str(entry.record[contract.key])
        if entry.record is None or entry.record.get("deleted"):
            ids.discard(key or "")
        else:
            ids.add(key or "")


@dataclass(frozen=True, slots=True)
class Stored:
    """How often Personalize has each interaction, from imports and from the stream."""

    imported: Counter[Identity]
    streamed: Counter[Identity]
    users: frozenset[str]
    items: frozenset[str]


@dataclass(frozen=True, slots=True)
class Difference:
    """Numbers of interactions that are missing, were never sent, or are stored twice."""

    missing: int
    invented: int
    twice: int


def identity(record: Mapping[str, Any]) -> Identity:
    """Return the identity of an interaction."""
    return (
        record.get("user_id"),
        record["item_id"],
        record["event_type"],
        record["occurred_at"] // 1000,
    )


def read_stored(reader: PersonalizeReader, expected: Expected) -> Stored:
    """Read everything with a new reader.

    An event that Personalize ignored as identical to another one counts as stored.
    """
    imported = Counter(
        (row["USER_ID"], row["ITEM_ID"], row["EVENT_TYPE"], int(row["TIMESTAMP"]))
        for row in reader.rows("imported/interactions")
    )
    streamed = Counter(
        (row["user_id"], row["item_id"], row["event_type"], row["sent_at"] // 1000)
        for row in reader.rows("events")
    )
    for ignored in reader.ignored():
        if ignored.same_as is not None and ignored.event_id in expected.interactions:
            streamed[expected.interactions[ignored.event_id]] += 1
    return Stored(
        imported,
        streamed,
        frozenset(_ids(reader, "users", "USER_ID")),
        frozenset(_ids(reader, "items", "ITEM_ID")),
    )


def compare(expected: Expected, stored: Stored) -> Difference:
    """Compare a source with what is stored."""
    sent = Counter(expected.interactions.values())
    present = stored.imported + stored.streamed
    missing = sent - present
    surplus = present - sent
    return Difference(
        missing=missing.total(),
        invented=sum(count for key, count in surplus.items() if key not in sent),
        twice=sum(count for key, count in surplus.items() if key in sent),
    )


def _ids(reader: PersonalizeReader, dataset: str, column: str) -> Iterable[str]:
    for row in reader.rows(f"imported/{dataset}"):
        yield row[column]
    for record_id, _ in reader.records(dataset):
        yield record_id
