"""Reconciliation of what was published with what came out. Pure; reading is done elsewhere.

Records are identified by event_id, or by their position (topic/partition/offset) if it cannot be
read. A finding is one error, with the id to look up.
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
    content_of,
    differing_fields,
    find_problem,
)

Record = Mapping[str, Any]
Positions = Mapping[str, Mapping[int, int]]


class Fault(StrEnum):
    """Kinds of findings; the values are part of the report's format."""

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


# Cached projections: popular items are attached often.
_CACHED_CONTENTS = 50_000

LOST = (Fault.NOT_ENRICHED, Fault.NOT_ACCEPTED)
INVENTED = (Fault.INVENTED_ENRICHED, Fault.INVENTED_ACCEPTED, Fault.INVENTED_DEAD_LETTER)


@dataclass(frozen=True, slots=True)
class Finding:
    """An error; ``id`` is an event_id, or a position without one."""

    fault: Fault
    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that Personalize accepted."""

    event_id: str
    accepted_ms: int
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that Personalize answered with 200 and did not store."""

    event_id: str
    reason: str
    same_as: str | None = None


@dataclass(slots=True)
class _Published:
    """A publication of an event, valid or malformed."""

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
    """An event with all its publications.

    ``acknowledged``: one of them is on the topic; ``unsure``: one has no answer from the broker.
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

    @property
    def is_missing(self) -> bool:
        """Whether Personalize must have it and has not."""
        is_settled = self.rejected is not None or self.refused or self.identical
        return self.accepted_ms is None and not is_settled


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
    """Compares what a run published with the records at the destinations.

    Add the records with ``add_enriched``, ``add_dead_letter`` and ``add_accepted``; then call
    ``findings``. The run published between the offsets ``start`` and ``end``; records from other
    offsets belong to other producers and are only counted.
    """

    def __init__(
        self,
        contracts: Contracts,
        rows: Iterable[LedgerRow],
        start: Positions,
        end: Positions,
        *,
        earlier_versions: Iterable[LedgerRow] = (),
        other_versions: Callable[[], Iterable[LedgerRow]] = tuple,
        stale_tolerance_ms: int = 0,
    ) -> None:
        """``other_versions``: reads what the topics have and no ledger; called for a version that
        seems wrong, since another producer may have published it."""
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
        self._other_versions = other_versions
        self._published: dict[str, _Published] = {}
        self._events: dict[str, _Event] = {}
        self._versions: dict[str, str] = {}
        self._users: dict[str, History] = {}
        self._items: dict[str, History] = {}
        self._contents: dict[str, dict[str, Any]] = {}
        self._findings: dict[tuple[Fault, str], str] = {}
        self._other_origins: list[tuple[Fault, str, str]] = []
        self._waiting_dead_letters = 0
        self._waiting_publications = 0
        self.tally = Tally()
        for row in earlier_versions:
            self._add_version(row, mine=False)
        for row in rows:
            self._add_row(row)

    # Publications

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
        history = self._histories(row.topic).setdefault(row.entity or "", History())
        if row.status is not Status.ACKNOWLEDGED:
            # A failed one may be on the topic, too: only the answer may be lost.
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

    # Records at the destinations

    def add_enriched(self, position: str, emitted_ms: int, record: Record) -> None:
        """Add a record of the enriched topic, with its position and append time."""
        origin, event_id = str(record["origin"]), str(record["event_id"])
        published = self._published.get(origin)
        if published is None:
            self._unknown_origin(origin, event_id)
            return
        self.tally.enriched_records += 1
        published.emitted += 1
        if published.kind is Kind.MALFORMED:
            self._add_finding(
                Fault.MALFORMED_PASSED, event_id or origin, f"{published.reason} at {origin}"
            )
            return
        if published.emitted > 1:
            self.tally.reemitted += 1
        else:
            self._waiting_publications -= 1
        if event_id != published.event_id:
            detail = f"{position} names the origin {origin}, which is {published.event_id}"
            self._add_finding(Fault.INVENTED_ENRICHED, event_id, detail)
            return
        event = self._events[event_id]
        if event.enriched_ms is None or emitted_ms < event.enriched_ms:
            event.enriched_ms = emitted_ms
        self._check_event(published, record)
        self.tally.without_user += record["user"] is None
        self.tally.without_item += record["item"] is None
        for what, histories in (("user", self._users), ("item", self._items)):
            entity, attached = record[f"{what}_id"], record[what]
            self._check_attached(what, histories, entity, attached, published, emitted_ms)

    def _unknown_origin(self, origin: str, event_id: str) -> None:
        if event_id in self._events and self._events[event_id].unsure:
            self.tally.enriched_records += 1
            return
        if self._is_of_others(origin, self._interactions):
            self.tally.other_enriched += 1
            self._other_origins.append((Fault.INVENTED_ENRICHED, event_id, origin))
            return
        detail = f"the origin {origin} is not in the ledger"
        if event_id in self._events:
            detail += ", which has another one"
        self._add_finding(Fault.INVENTED_ENRICHED, event_id, detail)

    def _is_of_others(self, origin: str, *topics: str) -> bool:
        """Whether a position was written by another producer, before or after the run."""
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
            self._add_finding(Fault.ALTERED, event_id, detail)
        actual = {name: record[name] for name in self._event_fields}
        # Equal bytes are equal records; only different bytes are decoded.
        try:
            if encode_body(self._schema, actual) == published.body:
                return
        except InvalidRecord:
            pass
        expected = self._bodies[self._interactions].read(published.body or b"")
        if names := differing_fields(expected, actual):
            self._add_finding(Fault.ALTERED, event_id, ", ".join(names))

    def _check_attached(
        self,
        what: str,
        histories: Mapping[str, History],
        entity: str | None,
        attached: Record | None,
        published: _Published,
        emitted_ms: int,
    ) -> None:
        origin = None if attached is None else str(attached["origin"])

        def find() -> tuple[History, str | None]:
            history = histories.get(entity or "", NOTHING_PUBLISHED)
            return history, find_problem(
                history, origin, published.timestamp, emitted_ms, self._stale_tolerance_ms
            )

        history, problem = find()
        if problem is not None and self._add_other_versions():
            history, problem = find()
        if history.uncertain:
            self.tally.unchecked += 1
            return
        if problem is None and attached is not None and origin is not None:
            version = history.find(origin)
            assert version is not None
            actual = {name: value for name, value in attached.items() if name != "origin"}
            if names := differing_fields(self._content(version), actual):
                problem = f"differs from {origin}: {', '.join(names)}"
        if problem is not None:
            detail = f"{what} {entity}: {problem}"
            self._add_finding(Fault.MISENRICHED, published.event_id or "", detail)

    def _add_other_versions(self) -> bool:
        """Add versions that no ledger has; returns whether there are new ones."""
        is_new = False
        for row in self._other_versions():
            origin = f"{row.topic}/{row.partition}/{row.offset}"
            histories = self._histories(row.topic)
            if origin in self._published:
                continue  # A malformed record of this run: a dead letter, and no version.
            if histories.get(row.entity or "", NOTHING_PUBLISHED).find(origin) is None:
                self._add_version(row, mine=False)
                is_new = True
        return is_new

    def _histories(self, topic: str) -> dict[str, History]:
        return self._users if self._contracts[topic].role is Role.USER else self._items

    def _content(self, version: Version) -> dict[str, Any]:
        content = self._contents.get(version.origin)
        if content is None:
            if len(self._contents) >= _CACHED_CONTENTS:
                self._contents.clear()
            content = self._contents[version.origin] = self._projected(version)
        return content

    def _projected(self, version: Version) -> dict[str, Any]:
        topic = version.origin.rsplit("/", 2)[0]
        return content_of(self._contracts[topic], self._bodies[topic].read(version.body or b""))

    def add_dead_letter(self, record: Record) -> None:
        """Add a record of the dead-letter topic."""
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
            self._add_finding(Fault.REFUSED, name, f"{code} at {origin}: {record['message']}")
            return
        if self._is_of_others(origin, *self._contracts) or self.tally.unacknowledged:
            self.tally.other_dead_letters += 1
            self._other_origins.append((Fault.INVENTED_DEAD_LETTER, origin, origin))
            return
        self._add_finding(Fault.INVENTED_DEAD_LETTER, origin, f"{code}; no record was sent there")

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
            self._add_finding(Fault.WRONG_DEAD_LETTER, name, detail)
        for field_name, expected in (
            ("payload", published.body),
            ("key", published.key),
            ("timestamp", published.timestamp),
        ):
            if record[field_name] != expected:
                detail = f"{origin}: {field_name} is not what was sent"
                self._add_finding(Fault.WRONG_DEAD_LETTER, name, detail)

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
        self._add_finding(
            Fault.INVENTED_DEAD_LETTER, name, f"{code} at {origin}; no such event was sent"
        )

    def add_accepted(
        self, accepted: Accepted, is_of_others: Callable[[Accepted], bool] = lambda _: False
    ) -> None:
        """Add an accepted event; ``is_of_others`` decides whether it is from another run."""
        event = self._events.get(accepted.event_id)
        if event is None:
            if is_of_others(accepted):
                self.tally.other_accepted += 1
            else:
                detail = f"accepted at {accepted.accepted_ms}; no such event was sent"
                self._add_finding(Fault.INVENTED_ACCEPTED, accepted.event_id, detail)
            return
        if event.accepted_ms is not None:
            self._add_finding(Fault.ACCEPTED_TWICE, accepted.event_id, "Personalize has it twice")
            return
        event.accepted_ms = accepted.accepted_ms
        event.duplicates = accepted.duplicates

    def set_duplicates(self, event_id: str, duplicates: int) -> None:
        """Set how often Personalize has ignored a duplicate of an accepted event."""
        if (event := self._events.get(event_id)) is not None:
            event.duplicates = duplicates

    def add_ignored(self, ignored: Ignored) -> None:
        """Add an event that Personalize did not store, as identical to another one."""
        event = self._events.get(ignored.event_id)
        if event is None or event.identical or event.accepted_ms is not None:
            return
        if ignored.reason == "identical" and ignored.same_as in self._events:
            event.identical = True
            self.tally.identical_ignored += 1

    def add_unreadable(self, position: str, problem: str) -> None:
        """Add a record of an output topic that cannot be decoded."""
        self._add_finding(Fault.UNREADABLE, position, problem)

    def _add_finding(self, fault: Fault, name: str, detail: str) -> None:
        self._findings.setdefault((fault, name), detail)

    # Results

    def outstanding(self, *, accepted: bool = True) -> tuple[int, int, int]:
        """Return how many enriched events, dead letters and accepted events are still missing."""
        missing = sum(e.acknowledged and e.is_missing for e in self._events.values())
        refused = sum(1 for p in self._published.values() if not p.emitted and self._is_refused(p))
        return (
            max(0, self._waiting_publications - refused),
            self._waiting_dead_letters,
            missing if accepted else 0,
        )

    def _is_refused(self, published: _Published) -> bool:
        return (
            published.kind is not Kind.MALFORMED
            and published.event_id is not None
            and self._events[published.event_id].refused
        )

    def findings(self, bounds: Positions | None = None, *, accepted: bool = True) -> list[Finding]:
        """Return all findings; without those of PutEvents if ``accepted`` is False.

        ``bounds`` are the present end offsets of the source topics: a record whose origin is not
        below them was invented.
        """
        findings = [Finding(fault, name, text) for (fault, name), text in self._findings.items()]
        for fault, name, origin in self._other_origins if bounds is not None else ():
            topic, partition, offset = origin.rsplit("/", 2)
            if int(offset) >= (bounds or {}).get(topic, {}).get(int(partition), 0):
                findings.append(Finding(fault, name, f"origin {origin}, which does not exist"))
        for event_id, event in self._events.items():
            if not event.acknowledged or event.refused:
                continue
            if event.enriched_ms is None:
                detail = "no enriched record"
                if event.accepted_ms is not None:
                    detail += ", but Personalize has it"
                findings.append(Finding(Fault.NOT_ENRICHED, event_id, detail))
            elif accepted and event.is_missing:
                detail = f"enriched at {event.enriched_ms}"
                findings.append(Finding(Fault.NOT_ACCEPTED, event_id, detail))
        for origin, published in self._published.items():
            if published.kind is Kind.MALFORMED and not published.dead_lettered:
                detail = f"{published.reason} at {origin}"
                findings.append(Finding(Fault.NO_DEAD_LETTER, published.event_id or origin, detail))
        return findings

    def event_counts(self) -> dict[str, int]:
        """Return the numbers of distinct valid events: acknowledged, enriched, accepted."""
        events = [event for event in self._events.values() if event.acknowledged]
        return {
            "valid": len(events),
            "enriched": sum(1 for event in events if event.enriched_ms is not None),
            "accepted": sum(1 for event in events if event.accepted_ms is not None),
            "duplicates_ignored": sum(event.duplicates for event in events),
        }

    def delays_ms(self) -> tuple[list[int], list[int]]:
        """Return the milliseconds from publication to emission and to acceptance, sorted.

        Events that Personalize had before (a replay of the same event ids) are left out of the
        latter.
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
        """Return the record in a body."""
        record: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(body), self._schema, None)
        return record
