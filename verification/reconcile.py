"""Reconciliation of what was published with what came out. Pure; reading is done elsewhere.

Every claim is by event_id; records without a readable one are known by their position
(topic/partition/offset). A finding is one thing that is wrong, with the id a person can look up.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import fastavro

from schemas.codec import encode_body, parse_plain
from schemas.invalid import InvalidRecord
from schemas.model import Contract, Contracts, Role
from verification.entries import Kind
from verification.ledger import LedgerRow, Status
from verification.reference import (
    NOTHING_PUBLISHED,
    History,
    Version,
    differing,
    item_content,
    judge,
    user_content,
)

Record = Mapping[str, Any]
Positions = Mapping[str, Mapping[int, int]]


class Fault(StrEnum):
    """Kinds of findings; part of the report's format."""

    NOT_ENRICHED = "lost: not enriched"
    NOT_ACCEPTED = "lost: enriched, not accepted"
    INVENTED_ENRICHED = "invented: enriched"
    INVENTED_ACCEPTED = "invented: accepted"
    INVENTED_DEAD_LETTER = "invented: dead letter"
    ALTERED = "altered"
    MISENRICHED = "misenriched"
    MALFORMED_PASSED = "poison passed"
    NO_DEAD_LETTER = "poison without dead letter"
    WRONG_DEAD_LETTER = "wrong dead letter"
    REFUSED = "valid record refused"
    ACCEPTED_TWICE = "accepted twice"
    UNREADABLE = "unreadable output"


# Projections that are kept: popular items are attached again and again.
_CACHED_CONTENTS = 50_000

LOST = (Fault.NOT_ENRICHED, Fault.NOT_ACCEPTED)
INVENTED = (Fault.INVENTED_ENRICHED, Fault.INVENTED_ACCEPTED, Fault.INVENTED_DEAD_LETTER)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: ``id`` is an event_id, or a position where there is none."""

    fault: Fault
    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that Personalize accepted, or left out as identical to ``same_as``."""

    event_id: str
    accepted_ms: int
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that Personalize answered with 200 and left out."""

    event_id: str
    reason: str
    same_as: str | None = None


@dataclass(slots=True)
class _Published:
    """One publication of an event, valid or malformed."""

    kind: Kind
    event_id: str | None
    origin: str
    timestamp: int
    key: bytes | None
    body: bytes | None
    reason: str | None
    emitted: int = 0
    dead_lettered: bool = False


@dataclass(slots=True)
class _Event:
    """An event over all its publications.

    ``acknowledged``: one of them is on the topic for certain; ``unsure``: of one nobody knows.
    """

    acknowledged: bool = False
    unsure: bool = False
    published_ms: int | None = None
    enriched_ms: int | None = None
    accepted_ms: int | None = None
    duplicates: int = 0
    rejected: str | None = None
    refused: bool = False
    identical: bool = False


@dataclass(slots=True)
class Tally:
    """Counts beside the findings."""

    produced: int = 0
    unacknowledged: int = 0
    enriched_records: int = 0
    reemitted: int = 0
    other_enriched: int = 0
    other_dead_letters: int = 0
    other_accepted: int = 0
    duplicates_ignored: int = 0
    identical_ignored: int = 0
    unchecked: int = 0
    without_user: int = 0
    without_item: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)


class Reconciliation:
    """What one run published, and everything that was seen of it since.

    Feed it with ``add_enriched``, ``add_dead_letter`` and ``add_accepted``; then ``findings``.
    ``start`` and ``end`` are the offsets between which the run published; a record that came from
    outside of them is another producer's and is only counted.
    """

    def __init__(
        self,
        contracts: Contracts,
        rows: Iterable[LedgerRow],
        start: Positions,
        end: Positions,
        *,
        earlier_versions: Iterable[LedgerRow] = (),
        stale_tolerance_ms: int = 0,
    ) -> None:
        interaction = contracts.only(Role.INTERACTION)
        self._interactions = interaction.topic
        self._enriched_topic = contracts.only(Role.ENRICHED).topic
        self._contracts = {contract.topic: contract for contract in contracts}
        self._schema = parse_plain(interaction.newest.definition)
        self._event_fields = interaction.newest.field_names
        self._bodies = {contract.topic: _BodyReader(contract) for contract in contracts.sources}
        self._start = start
        self._end = end
        self._stale_tolerance_ms = stale_tolerance_ms
        self._published: dict[str, _Published] = {}
        self._events: dict[str, _Event] = {}
        self._versions: dict[str, str] = {}
        self._users: dict[str, History] = {}
        self._items: dict[str, History] = {}
        self._contents: dict[str, dict[str, Any]] = {}
        self._found: dict[tuple[Fault, str], str] = {}
        self._beyond: list[tuple[Fault, str, str]] = []
        self._waiting_dead_letters = 0
        self._waiting_publications = 0
        self.tally = Tally()
        for row in earlier_versions:
            self._add_version(row, mine=False)
        for row in rows:
            self._add_row(row)

    # What was published

    def _add_row(self, row: LedgerRow) -> None:
        if row.kind is Kind.VERSION:
            self._add_version(row, mine=True)
            return
        event = None
        if row.kind is not Kind.MALFORMED and row.event_id is not None:
            event = self._events.setdefault(row.event_id, _Event())
        if row.topic == self._interactions:
            self.tally.produced += 1
        if row.status is not Status.ACKNOWLEDGED:
            self.tally.unacknowledged += 1
            if event is not None:
                event.unsure = True
            return
        origin = f"{row.topic}/{row.partition}/{row.offset}"
        published = _Published(
            row.kind,
            row.event_id,
            origin,
            row.timestamp or 0,
            row.key,
            row.body,
            None if row.reason is None else row.reason.value,
        )
        self._published[origin] = published
        if event is None:
            self._waiting_dead_letters += 1
            return
        self._waiting_publications += 1
        if not event.acknowledged:
            event.acknowledged = True
        if event.published_ms is None or published.timestamp < event.published_ms:
            event.published_ms = published.timestamp

    def _add_version(self, row: LedgerRow, *, mine: bool) -> None:
        contract = self._contracts[row.topic]
        histories = self._users if contract.role is Role.USER else self._items
        history = histories.setdefault(row.entity or "", History())
        if row.status is not Status.ACKNOWLEDGED:
            # A failed one may be on the topic as well: the answer is what got lost.
            history.uncertain = True
            return
        origin = f"{row.topic}/{row.partition}/{row.offset}"
        history.add(
            Version(
                origin,
                row.timestamp or 0,
                row.offset or 0,
                row.updated_at,
                row.deleted,
                None if row.deleted else row.body,
            )
        )
        if mine:
            self._versions[origin] = row.entity or ""

    # What was seen

    def add_enriched(self, position: str, emitted_ms: int, record: Record) -> None:
        """One record of the enriched topic, found at ``position``, appended at ``emitted_ms``."""
        origin, event_id = str(record["origin"]), str(record["event_id"])
        published = self._published.get(origin)
        if published is None:
            self._unknown_origin(origin, event_id)
            return
        self.tally.enriched_records += 1
        published.emitted += 1
        if published.kind is Kind.MALFORMED:
            self._note(
                Fault.MALFORMED_PASSED, event_id or origin, f"{published.reason} at {origin}"
            )
            return
        if published.emitted > 1:
            self.tally.reemitted += 1
        else:
            self._waiting_publications -= 1
        if event_id != published.event_id:
            detail = f"{position} says it is from {origin}, which holds {published.event_id}"
            self._note(Fault.INVENTED_ENRICHED, event_id, detail)
            return
        event = self._events[event_id]
        if event.enriched_ms is None or emitted_ms < event.enriched_ms:
            event.enriched_ms = emitted_ms
        self._check_event(published, record)
        self._check_user(published, record, emitted_ms)
        self._check_item(published, record, emitted_ms)

    def _unknown_origin(self, origin: str, event_id: str) -> None:
        if event_id in self._events and self._events[event_id].unsure:
            self.tally.enriched_records += 1
            return
        if self._is_of_others(origin, self._interactions):
            self.tally.other_enriched += 1
            self._beyond.append((Fault.INVENTED_ENRICHED, event_id, origin))
            return
        what = "another position is in the ledger" if event_id in self._events else "nothing is"
        self._note(Fault.INVENTED_ENRICHED, event_id, f"origin {origin}, of which {what}")

    def _is_of_others(self, origin: str, *topics: str) -> bool:
        """Whether a position is one that another producer wrote, before or after the run."""
        topic, _, rest = origin.rpartition("/")
        topic, _, partition = topic.rpartition("/")
        if topic not in topics or not partition.isdecimal() or not rest.isdecimal():
            return False
        number, offset = int(partition), int(rest)
        if number not in self._start.get(topic, {}):
            return False
        first = self._start[topic][number]
        return not first <= offset < self._end.get(topic, {}).get(number, first)

    def _check_event(self, published: _Published, record: Record) -> None:
        event_id = published.event_id or ""
        if record["published_at"] != published.timestamp:
            detail = f"published_at is {record['published_at']}, was {published.timestamp}"
            self._note(Fault.ALTERED, event_id, detail)
        found = {name: record[name] for name in self._event_fields}
        # The same bytes are the same record; only other bytes are worth decoding.
        try:
            if encode_body(self._schema, found) == published.body:
                return
        except InvalidRecord:
            pass
        expected = self._bodies[self._interactions].read(published.body or b"")
        if names := differing(expected, found):
            self._note(Fault.ALTERED, event_id, ", ".join(names))

    def _check_user(self, published: _Published, record: Record, emitted_ms: int) -> None:
        user_id, attached = record["user_id"], record["user"]
        if attached is None:
            self.tally.without_user += 1
        self._check_attached("user", self._users, user_id, attached, published, emitted_ms)

    def _check_item(self, published: _Published, record: Record, emitted_ms: int) -> None:
        item_id, attached = record["item_id"], record["item"]
        if attached is None:
            self.tally.without_item += 1
        self._check_attached("item", self._items, item_id, attached, published, emitted_ms)

    def _check_attached(
        self,
        what: str,
        histories: Mapping[str, History],
        entity: str | None,
        attached: Record | None,
        published: _Published,
        emitted_ms: int,
    ) -> None:
        history = NOTHING_PUBLISHED if entity is None else histories.get(entity, NOTHING_PUBLISHED)
        if history.uncertain:
            self.tally.unchecked += 1
            return
        origin = None if attached is None else str(attached["origin"])
        problem = judge(history, origin, published.timestamp, emitted_ms, self._stale_tolerance_ms)
        if problem is None and attached is not None and origin is not None:
            version = history.find(origin)
            assert version is not None
            found = {name: value for name, value in attached.items() if name != "origin"}
            if names := differing(self._content(version), found):
                problem = f"{origin} says otherwise: {', '.join(names)}"
        if problem is not None:
            detail = f"{what} {entity}: {problem}"
            self._note(Fault.MISENRICHED, published.event_id or "", detail)

    def _content(self, version: Version) -> dict[str, Any]:
        content = self._contents.get(version.origin)
        if content is None:
            if len(self._contents) >= _CACHED_CONTENTS:
                self._contents.clear()
            content = self._contents[version.origin] = self._projected(version)
        return content

    def _projected(self, version: Version) -> dict[str, Any]:
        topic = version.origin.rsplit("/", 2)[0]
        contract = self._contracts[topic]
        record = self._bodies[topic].read(version.body or b"")
        if contract.user is not None:
            return user_content(contract.user, record)
        assert contract.item is not None
        return item_content(contract.item, record)

    def add_dead_letter(self, record: Record) -> None:
        """One record of the dead-letter topic."""
        origin = f"{record['topic']}/{record['partition']}/{record['offset']}"
        code = str(record["error_code"])
        if record["step"] == "deliver":
            self._add_rejected(origin, code, record["event_id"])
            return
        published = self._published.get(origin)
        if published is not None and published.kind is Kind.MALFORMED:
            self._check_dead_letter(published, record, origin, code)
            return
        if published is not None or origin in self._versions:
            name = (published.event_id if published else None) or origin
            if published is not None and published.event_id is not None:
                self._events[published.event_id].refused = True
            self._note(Fault.REFUSED, name, f"{code} at {origin}: {record['message']}")
            return
        if self._is_of_others(origin, *self._contracts) or self.tally.unacknowledged:
            self.tally.other_dead_letters += 1
            self._beyond.append((Fault.INVENTED_DEAD_LETTER, origin, origin))
            return
        self._note(Fault.INVENTED_DEAD_LETTER, origin, f"{code}; nothing was sent there")

    def _check_dead_letter(
        self, published: _Published, record: Record, origin: str, code: str
    ) -> None:
        name = published.event_id or origin
        if not published.dead_lettered:
            published.dead_lettered = True
            self._waiting_dead_letters -= 1
            self.tally.dead_letters[code] = self.tally.dead_letters.get(code, 0) + 1
        if code != published.reason:
            detail = f"{origin}: {code}, expected {published.reason}"
            self._note(Fault.WRONG_DEAD_LETTER, name, detail)
        for field_name, expected in (
            ("payload", published.body),
            ("key", published.key),
            ("timestamp", published.timestamp),
        ):
            if record[field_name] != expected:
                detail = f"{origin}: {field_name} is not what was sent"
                self._note(Fault.WRONG_DEAD_LETTER, name, detail)

    def _add_rejected(self, origin: str, code: str, event_id: str | None) -> None:
        event = self._events.get(event_id or "")
        if event is not None:
            if event.rejected is None:
                self.tally.rejected[code] = self.tally.rejected.get(code, 0) + 1
            event.rejected = code
            return
        if self._is_of_others(origin, self._enriched_topic):
            self.tally.other_dead_letters += 1
            return
        name = event_id or origin
        self._note(Fault.INVENTED_DEAD_LETTER, name, f"{code} at {origin}; no such event was sent")

    def add_accepted(
        self, accepted: Accepted, is_of_others: Callable[[Accepted], bool] = lambda _: False
    ) -> None:
        """An event that Personalize holds; ``is_of_others`` knows other runs' events."""
        event = self._events.get(accepted.event_id)
        if event is None:
            if is_of_others(accepted):
                self.tally.other_accepted += 1
            else:
                detail = f"accepted at {accepted.accepted_ms}; no such event was sent"
                self._note(Fault.INVENTED_ACCEPTED, accepted.event_id, detail)
            return
        if event.accepted_ms is not None:
            self._note(Fault.ACCEPTED_TWICE, accepted.event_id, "two events for the training")
            return
        event.accepted_ms = accepted.accepted_ms
        event.duplicates = accepted.duplicates

    def set_duplicates(self, event_id: str, duplicates: int) -> None:
        """How often Personalize has ignored an accepted event's repetition so far."""
        if (event := self._events.get(event_id)) is not None:
            event.duplicates = duplicates

    def add_ignored(self, ignored: Ignored) -> None:
        """An event that Personalize left out: fine when it has the same one under another id."""
        event = self._events.get(ignored.event_id)
        if event is None or event.identical or event.accepted_ms is not None:
            return
        if ignored.reason == "identical" and ignored.same_as in self._events:
            event.identical = True
            self.tally.identical_ignored += 1

    def add_unreadable(self, position: str, problem: str) -> None:
        """A record of an output topic that does not decode."""
        self._note(Fault.UNREADABLE, position, problem)

    def _note(self, fault: Fault, name: str, detail: str) -> None:
        self._found.setdefault((fault, name), detail)

    # What follows

    def outstanding(self, *, accepted: bool = True) -> tuple[int, int, int]:
        """Counts of enriched events, dead letters and accepted events that are missing so far."""
        events = (e for e in self._events.values() if e.acknowledged)
        left = sum(
            1
            for e in events
            if e.accepted_ms is None and e.rejected is None and not e.identical and not e.refused
        )
        refused = sum(1 for p in self._published.values() if not p.emitted and self._is_refused(p))
        return (
            max(0, self._waiting_publications - refused),
            self._waiting_dead_letters,
            left if accepted else 0,
        )

    def _is_refused(self, published: _Published) -> bool:
        return (
            published.kind is not Kind.MALFORMED
            and published.event_id is not None
            and self._events[published.event_id].refused
        )

    def findings(self, bounds: Positions | None = None, *, accepted: bool = True) -> list[Finding]:
        """All that is wrong; ``accepted`` False leaves Personalize out of it.

        ``bounds`` are the offsets at which the source topics end now: whatever claims to come from
        there or beyond was invented.
        """
        found = [Finding(fault, name, text) for (fault, name), text in self._found.items()]
        for fault, name, origin in self._beyond if bounds is not None else ():
            topic, partition, offset = origin.rsplit("/", 2)
            if int(offset) >= (bounds or {}).get(topic, {}).get(int(partition), 0):
                found.append(Finding(fault, name, f"origin {origin}, which does not exist"))
        for event_id, event in self._events.items():
            if not event.acknowledged or event.refused:
                continue
            if event.enriched_ms is None:
                detail = "no enriched record"
                if event.accepted_ms is not None:
                    detail += ", though Personalize has it"
                found.append(Finding(Fault.NOT_ENRICHED, event_id, detail))
            elif (
                accepted
                and event.accepted_ms is None
                and event.rejected is None
                and not event.identical
            ):
                detail = f"enriched at {event.enriched_ms}"
                found.append(Finding(Fault.NOT_ACCEPTED, event_id, detail))
        for origin, published in self._published.items():
            if published.kind is Kind.MALFORMED and not published.dead_lettered:
                detail = f"{published.reason} at {origin}"
                found.append(Finding(Fault.NO_DEAD_LETTER, published.event_id or origin, detail))
        return found

    def event_counts(self) -> dict[str, int]:
        """Distinct valid events: acknowledged, enriched, accepted."""
        events = [event for event in self._events.values() if event.acknowledged]
        return {
            "valid": len(events),
            "enriched": sum(1 for event in events if event.enriched_ms is not None),
            "accepted": sum(1 for event in events if event.accepted_ms is not None),
            "duplicates_ignored": sum(event.duplicates for event in events),
        }

    def delays_ms(self) -> tuple[list[int], list[int]]:
        """Milliseconds from publication to emission and to acceptance, sorted.

        An event that Personalize had before it was published (a replay of the same event ids) has
        no delay of acceptance.
        """
        emission: list[int] = []
        acceptance: list[int] = []
        for event in self._events.values():
            if event.published_ms is None:
                continue
            if event.enriched_ms is not None:
                emission.append(event.enriched_ms - event.published_ms)
            if event.accepted_ms is not None and event.accepted_ms >= event.published_ms:
                acceptance.append(event.accepted_ms - event.published_ms)
        return sorted(emission), sorted(acceptance)


class _BodyReader:
    """Reads Avro bodies written with a contract's newest schema version."""

    def __init__(self, contract: Contract) -> None:
        self._schema = parse_plain(contract.newest.definition)

    def read(self, body: bytes) -> dict[str, Any]:
        """The record in a body."""
        record: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(body), self._schema, None)
        return record
