"""What the local Personalize knows, from imports in bulk and from the stream together.

An imported row has no event id: an interaction is known by its user (None: anonymous), item, type
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
    """What a source says that there is: interactions once each by event id, and their identities;
    the users and items that are left at its end, by id."""

    contracts: Contracts
    interactions: dict[str, Identity] = field(default_factory=dict)
    records: dict[str, set[str]] = field(default_factory=lambda: {"users": set(), "items": set()})

    def add(self, entry: Entry) -> None:
        """One more entry, in the order of the source; a malformed record adds nothing."""
        contract = self.contracts[entry.domain]
        if entry.kind is Kind.MALFORMED:
            return
        if contract.role is Role.INTERACTION:
            assert entry.record is not None
            self.interactions.setdefault(entry.record["event_id"], identity(entry.record))
            return
        found = self.records["users" if contract.role is Role.USER else "items"]
        key = entry.key if entry.record is None else str(entry.record[contract.key])
        if entry.record is None or entry.record.get("deleted"):
            found.discard(key or "")
        else:
            found.add(key or "")


@dataclass(frozen=True, slots=True)
class Known:
    """Personalize's side: how often each interaction is known, by an import and by the stream."""

    imported: Counter[Identity]
    streamed: Counter[Identity]
    users: frozenset[str]
    items: frozenset[str]


@dataclass(frozen=True, slots=True)
class Difference:
    """Expected against known, in numbers of interactions.

    ``unknown``: that Personalize has in no way, ``invented``: that it has and nobody sent,
    ``twice``: more often than sent. ``anonymous`` of the unknown have no user.
    """

    unknown: int
    anonymous: int
    invented: int
    twice: int


def identity(record: Mapping[str, Any]) -> Identity:
    """Of an interaction as its producer has it."""
    return (
        record.get("user_id"),
        record["item_id"],
        record["event_type"],
        record["occurred_at"] // 1000,
    )


def read_known(reader: PersonalizeReader, expected: Expected) -> Known:
    """All of it as of now; ``reader`` a new one.

    An event that Personalize has left out as identical to another one is known by that.
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
    return Known(
        imported,
        streamed,
        frozenset(_ids(reader, "users", "USER_ID")),
        frozenset(_ids(reader, "items", "ITEM_ID")),
    )


def compare(expected: Expected, known: Known) -> Difference:
    """How they differ."""
    sent = Counter(expected.interactions.values())
    both = known.imported + known.streamed
    unknown = sent - both
    more = both - sent
    return Difference(
        unknown=unknown.total(),
        anonymous=sum(count for one, count in unknown.items() if one[0] is None),
        invented=sum(count for one, count in more.items() if one not in sent),
        twice=sum(count for one, count in more.items() if one in sent),
    )


def _ids(reader: PersonalizeReader, dataset: str, column: str) -> Iterable[str]:
    for row in reader.rows(f"imported/{dataset}"):
        yield row[column]
    for found, _ in reader.records(dataset):
        yield found
