"""Reconciliation: a clean run has no findings, and every kind of fault is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from schemas.invalid import Reason
from schemas.model import load_contracts
from verification.entries import Entry, Kind
from verification.generator import GeneratedHour, Hour
from verification.ledger import LedgerRow, Status
from verification.publications import Publisher
from verification.reconcile import Accepted, Fault, Finding, Ignored, Reconciliation
from verification.reference import item_content, user_content

CONTRACTS = load_contracts()
PUBLISHER = Publisher(CONTRACTS, {c.name: UUID(int=n) for n, c in enumerate(CONTRACTS, 1)})
START = {c.topic: {0: 100} for c in CONTRACTS}
T0 = 1_763_000_000_000
"""When the dimensions are published; events follow 10 s later, an event each 10 ms."""

USER = {"user_id": "u1", "country": "DE", "subscription": "free", "created_at": 5}
SONG = {"song_id": "s1", "title": "One", "artist": "A", "genres": ["rock"], "updated_at": 7}
EVENT = {
    "session_id": "x", "user_id": "u1", "item_id": "s1", "event_type": "play", "occurred_at": T0,
}  # fmt: skip


class World:
    """A run on topics of one partition, and a correct pipeline."""

    def __init__(self, *entries: Entry) -> None:
        self.rows: list[LedgerRow] = []
        self._ends = dict.fromkeys(START, 100)
        self.enriched: list[tuple[int, dict[str, Any]]] = []
        self.letters: list[dict[str, Any]] = []
        self.accepted: list[Accepted] = []
        self.ignored: list[Ignored] = []
        self._users: dict[str, Any] = {}
        self._items: dict[str, Any] = {}
        for number, entry in enumerate(entries):
            moment = T0 + (10_000 + number * 10 if entry.domain == "interactions" else number)
            row = self._row(entry, moment, number)
            self.rows.append(row)
            origin = f"{row.topic}/0/{row.offset}"
            if row.kind is Kind.VERSION:
                self._project(entry, origin, row)
            elif row.kind is Kind.MALFORMED:
                self.letters.append(self._letter(row))
            else:
                self._deliver(entry, origin, row)

    def _row(self, entry: Entry, moment: int, seq: int) -> LedgerRow:
        publication = PUBLISHER.create_publication(entry, moment)
        offset = self._ends[publication.topic]
        self._ends[publication.topic] += 1
        return LedgerRow(
            seq, publication.topic, publication.key, publication.event_id, publication.kind,
            publication.reason, publication.entity, publication.updated_at, publication.deleted,
            publication.body, Status.ACKNOWLEDGED, 0, offset, moment,
        )  # fmt: skip

    def _project(self, entry: Entry, origin: str, row: LedgerRow) -> None:
        contract = CONTRACTS[entry.domain]
        known = self._users if contract.user else self._items
        if entry.record is None or row.deleted:
            known[row.entity or ""] = None
            return
        blank = dict.fromkeys(contract.newest.field_names)
        record = {**blank, **entry.record}
        content = (
            user_content(contract.user, record)
            if contract.user
            else item_content(contract.item, record)  # type: ignore[arg-type]
        )
        known[row.entity or ""] = {**content, "origin": origin}

    def _deliver(self, entry: Entry, origin: str, row: LedgerRow) -> None:
        blank = dict.fromkeys(CONTRACTS["interactions"].newest.field_names)
        record = {**blank, **(entry.record or {})}
        record |= {
            "origin": origin,
            "published_at": row.timestamp,
            "user": self._users.get(record["user_id"]),
            "item": self._items.get(record["item_id"]),
        }
        moment = (row.timestamp or 0) + 50
        self.enriched.append((moment, record))
        if row.event_id not in {one.event_id for one in self.accepted}:
            self.accepted.append(Accepted(row.event_id or "", moment + 50))

    @staticmethod
    def _letter(row: LedgerRow) -> dict[str, Any]:
        return {
            "topic": row.topic, "partition": 0, "offset": row.offset, "timestamp": row.timestamp,
            "key": row.key, "payload": row.body, "step": "decode",
            "error_code": str(row.reason), "message": "", "event_id": None, "first_seen": 0,
        }  # fmt: skip

    def reconciliation(self, **options: Any) -> Reconciliation:
        """The reconciliation of this world, everything read."""
        end = {topic: {0: last} for topic, last in self._ends.items()}
        reconciliation = Reconciliation(CONTRACTS, self.rows, START, end, **options)
        for one in self.accepted:
            reconciliation.add_accepted(one)
        for ignored in self.ignored:
            reconciliation.add_ignored(ignored)
        for number, (moment, record) in enumerate(self.enriched):
            reconciliation.add_enriched(f"interactions-enriched/0/{number}", moment, record)
        for letter in self.letters:
            reconciliation.add_dead_letter(letter)
        return reconciliation

    def findings(self) -> list[Finding]:
        """What is wrong in this world."""
        bounds = {topic: {0: last} for topic, last in self._ends.items()}
        return self.reconciliation().findings(bounds)


def event(event_id: str, kind: Kind = Kind.VALID, **fields: Any) -> Entry:
    return Entry("interactions", {"event_id": event_id, **EVENT, **fields}, kind)


def malformed(reason: Reason, event_id: str = "bad") -> Entry:
    return Entry("interactions", {"event_id": event_id, **EVENT}, Kind.MALFORMED, reason=reason)


def version(domain: str, record: dict[str, Any] | None, key: str | None = None) -> Entry:
    return Entry(domain, record, Kind.VERSION, key=key)


@pytest.fixture
def world() -> World:
    """A user, two songs, an update of one, three events, a duplicate, two malformed records."""
    return World(
        version("users", USER),
        version("songs", SONG),
        version("songs", {**SONG, "song_id": "s2", "title": "Two"}),
        version("songs", {**SONG, "genres": ["jazz"], "updated_at": 8}),
        event("e1"),
        event("e2", user_id=None),
        event("e2", Kind.DUPLICATE, user_id=None),
        malformed(Reason.TRUNCATED_BODY),
        event("e3", item_id="s2"),
        malformed(Reason.EMPTY_VALUE, "bad2"),
    )


def test_a_correct_pipeline_has_no_findings(world: World) -> None:
    """Counts, delays and nothing outstanding."""
    reconciliation = world.reconciliation()
    assert reconciliation.findings() == []
    assert reconciliation.outstanding() == (0, 0, 0)
    assert reconciliation.event_counts() == {
        "valid": 3, "enriched": 3, "accepted": 3, "duplicates_ignored": 0,
    }  # fmt: skip
    assert reconciliation.tally.produced == 6
    assert reconciliation.tally.dead_letters == {"truncated_body": 1, "empty_value": 1}
    assert reconciliation.delays_ms() == ([50, 50, 50], [100, 100, 100])


def test_a_generated_hour_with_anomalies_has_no_findings() -> None:
    """Updates, late updates, deletions, revivals, missing items, every kind of malformed record."""
    source = GeneratedHour(Hour(3_000, T0, seed=3, anomalies=True))
    entries = [*source.dimensions()]
    world = World(*entries)
    assert world.findings() == []
    # The stand-in takes the last version as the newest, so late older ones are left out here.
    stream = [e for e in source.stream() if e.domain == "interactions"]
    world = World(*entries, *stream)
    assert world.findings() == []
    assert set(world.reconciliation().tally.dead_letters) == {str(reason) for reason in Reason}


def test_versions_of_other_producers_are_read_when_one_seems_wrong() -> None:
    """A newer one, a deletion, a first one: none is in the ledger; a wrong one is found all the
    same."""
    others = World(
        version("users", USER),
        version("songs", {**SONG, "title": "Two", "updated_at": 8}),
        event("e1"),
        version("songs", None, key="s1"),
        event("e2"),
        version("songs", {**SONG, "title": "Three", "updated_at": T0 + 10_060}),
        event("e3"),
    )
    # The song was published by another producer between the events of this run.
    foreign = [row for row in others.rows if row.topic == "songs"]
    foreign = [replace(row, timestamp=T0 + 10_000 + row.seq * 10 - 5) for row in foreign]
    others.rows = [row for row in others.rows if row.topic != "songs"]
    calls = []

    def read() -> list[LedgerRow]:
        calls.append(1)
        return foreign

    assert others.reconciliation(other_versions=read).findings() == []
    assert len(calls) == 1
    assert {f.fault for f in others.reconciliation().findings()} == {Fault.MISENRICHED}
    others.enriched[0][1]["item"]["title"] = "never published"
    (wrong,) = others.reconciliation(other_versions=read).findings()
    assert (wrong.fault, wrong.id) == (Fault.MISENRICHED, "e1")
    calls.clear()
    right = World(version("songs", SONG), event("e1"))
    assert right.reconciliation(other_versions=read).findings() == []
    assert calls == []


def test_a_malformed_record_of_the_run_is_no_version_of_another_producer() -> None:
    """It decodes, and its time would make it the newest."""
    world = World(
        version("songs", SONG),
        Entry("songs", SONG, Kind.MALFORMED, reason=Reason.FUTURE_TIMESTAMP),
        event("e1"),
    )
    dead_letter = world.rows[1]
    row = replace(dead_letter, kind=Kind.VERSION, entity="s1", updated_at=T0 * 2, body=b"x")
    world.enriched[0][1]["item"]["title"] = "never published"
    (wrong,) = world.reconciliation(other_versions=lambda: [row]).findings()
    assert "differs from songs/0/100: title" in wrong.detail


def test_without_output_everything_is_outstanding(world: World) -> None:
    """Enriched events, dead letters of malformed records, accepted events."""
    world.enriched, world.letters, world.accepted = [], [], []
    reconciliation = world.reconciliation()
    assert reconciliation.outstanding() == (4, 2, 3)
    assert reconciliation.outstanding(accepted=False) == (4, 2, 0)


Corrupt = Callable[[World], None]


def lose(event_id: str, *, enriched: bool = True, accepted: bool = True) -> Corrupt:
    def corrupt(world: World) -> None:
        if enriched:
            world.enriched = [one for one in world.enriched if one[1]["event_id"] != event_id]
        if accepted:
            world.accepted = [one for one in world.accepted if one.event_id != event_id]

    return corrupt


def change(event_id: str, **fields: Any) -> Corrupt:
    def corrupt(world: World) -> None:
        world.enriched = [
            (moment, {**record, **fields} if record["event_id"] == event_id else record)
            for moment, record in world.enriched
        ]

    return corrupt


def change_attached(event_id: str, what: str, **fields: Any) -> Corrupt:
    def corrupt(world: World) -> None:
        for _, record in world.enriched:
            if record["event_id"] == event_id:
                record[what] = {**record[what], **fields}

    return corrupt


def attach_first(event_id: str, what: str) -> Corrupt:
    """Attach what the first event has."""
    return lambda world: change(event_id, **{what: world.enriched[0][1][what]})(world)


def add_enriched(**fields: Any) -> Corrupt:
    return lambda world: world.enriched.extend(
        [(moment, {**record, **fields}) for moment, record in world.enriched[:1]]
    )


def emit_malformed(world: World) -> None:
    origin = f"interactions/0/{world.letters[0]['offset']}"
    add_enriched(event_id="bad", origin=origin)(world)


def change_letter(**fields: Any) -> Corrupt:
    return lambda world: world.letters[0].update(fields)


def drop_letter(world: World) -> None:
    del world.letters[1]


def add_letter(**fields: Any) -> Corrupt:
    return lambda world: world.letters.append({**world.letters[0], **fields})


def refuse_valid(world: World) -> None:
    _, record = world.enriched[0]
    add_letter(offset=int(record["origin"].rsplit("/", 1)[1]))(world)
    lose("e1")(world)


def accept(event_id: str) -> Corrupt:
    return lambda world: world.accepted.append(Accepted(event_id, T0 + 20_000))


@pytest.mark.parametrize(
    ("corrupt", "fault", "name", "says"),
    [
        (lose("e1"), Fault.NOT_ENRICHED, "e1", "no enriched record"),
        (lose("e1", accepted=False), Fault.NOT_ENRICHED, "e1", "but Personalize has it"),
        (lose("e3", enriched=False), Fault.NOT_ACCEPTED, "e3", "enriched at"),
        (add_enriched(event_id="ghost", origin="interactions/0/103x"),
         Fault.INVENTED_ENRICHED, "ghost", "is not in the ledger"),
        (add_enriched(event_id="ghost", origin="interactions/7/101"),
         Fault.INVENTED_ENRICHED, "ghost", "interactions/7/101"),
        (add_enriched(event_id="ghost", origin="interactions/0/9999"),
         Fault.INVENTED_ENRICHED, "ghost", "does not exist"),
        (add_enriched(event_id="ghost"), Fault.INVENTED_ENRICHED, "ghost", "which is e1"),
        (accept("ghost"), Fault.INVENTED_ACCEPTED, "ghost", "no such event"),
        (add_letter(offset=9_999),
         Fault.INVENTED_DEAD_LETTER, "interactions/0/9999", "does not exist"),
        (add_letter(step="deliver", topic="interactions-enriched", partition=3, event_id="ghost"),
         Fault.INVENTED_DEAD_LETTER, "ghost", "no such event"),
        (accept("e1"), Fault.ACCEPTED_TWICE, "e1", "twice"),
        (change("e1", event_type="skip"), Fault.ALTERED, "e1", "event_type"),
        (change("e1", played_ms="many"), Fault.ALTERED, "e1", "played_ms"),
        (change("e1", published_at=1), Fault.ALTERED, "e1", "published_at"),
        (change("e1", user=None), Fault.MISENRICHED, "e1", "user u1: missing"),
        (change("e1", item=None), Fault.MISENRICHED, "e1", "item s1: missing"),
        (change_attached("e1", "item", origin="songs/0/100"), Fault.MISENRICHED, "e1", "stale"),
        (change_attached("e1", "item", origin="songs/0/101"), Fault.MISENRICHED, "e1",
         "not a version"),
        (change_attached("e1", "item", genres=["polka"]), Fault.MISENRICHED, "e1", "genres"),
        (change_attached("e1", "item", surplus=1), Fault.MISENRICHED, "e1", "surplus"),
        (change_attached("e1", "user", country="FR"), Fault.MISENRICHED, "e1", "country"),
        (attach_first("e2", "user"), Fault.MISENRICHED, "e2", "user None"),
        (attach_first("e3", "item"), Fault.MISENRICHED, "e3", "not a version"),
        (emit_malformed, Fault.MALFORMED_PASSED, "bad", "truncated_body"),
        (drop_letter, Fault.NO_DEAD_LETTER, "bad2", "empty_value"),
        (change_letter(error_code="wrong_type"), Fault.WRONG_DEAD_LETTER, "bad",
         "expected truncated_body"),
        (change_letter(payload=b""), Fault.WRONG_DEAD_LETTER, "bad", "payload"),
        (change_letter(key=None), Fault.WRONG_DEAD_LETTER, "bad", "key"),
        (change_letter(timestamp=1), Fault.WRONG_DEAD_LETTER, "bad", "timestamp"),
        (refuse_valid, Fault.REFUSED, "e1", "truncated_body"),
        (add_letter(topic="songs", offset=101), Fault.REFUSED, "songs/0/101", "truncated_body"),
    ],
)  # fmt: skip
def test_each_fault_is_one_finding(
    world: World, corrupt: Corrupt, fault: Fault, name: str, says: str
) -> None:
    """With the id and the reason."""
    corrupt(world)
    (found,) = world.findings()
    assert (found.fault, found.id) == (fault, name)
    assert says in found.detail


def test_an_event_under_anothers_position_is_invented_and_its_own_is_lost(world: World) -> None:
    """The event_id at a position must be the one that was sent there."""
    change("e1", origin=world.enriched[-1][1]["origin"])(world)
    found = {(one.fault, one.id) for one in world.findings()}
    assert found == {(Fault.INVENTED_ENRICHED, "e1"), (Fault.NOT_ENRICHED, "e1")}


def test_a_repeated_emission_and_a_lost_duplicate_are_no_findings(world: World) -> None:
    """At least once: repetitions are counted; an event needs one of its publications only."""
    world.enriched.append(world.enriched[0])
    reconciliation = world.reconciliation()
    assert reconciliation.findings() == []
    assert reconciliation.tally.reemitted == 1
    del world.enriched[1]
    reconciliation = world.reconciliation()
    assert reconciliation.findings() == []
    assert reconciliation.outstanding()[0] == 1


def test_a_repeated_dead_letter_is_counted_once(world: World) -> None:
    """A restart may repeat it."""
    world.letters.append(world.letters[0])
    reconciliation = world.reconciliation()
    assert reconciliation.findings() == []
    assert reconciliation.tally.dead_letters["truncated_body"] == 1


def test_an_event_rejected_at_delivery_is_no_finding(world: World) -> None:
    """It is counted by its reason, and neither lost nor outstanding."""
    lose("e3", enriched=False)(world)
    rejection = {"topic": "interactions-enriched", "error_code": "Invalid", "event_id": "e3"}
    add_letter(step="deliver", **rejection)(world)
    reconciliation = world.reconciliation()
    assert reconciliation.findings() == []
    assert reconciliation.outstanding() == (0, 0, 0)
    assert reconciliation.tally.rejected == {"Invalid": 1}


def test_an_event_identical_to_another_is_no_finding(world: World) -> None:
    """One that Personalize ignored for another reason is."""
    lose("e3", enriched=False)(world)
    world.ignored = [Ignored("e3", "null_session")]
    assert [one.fault for one in world.findings()] == [Fault.NOT_ACCEPTED]
    world.ignored = [Ignored("e3", "identical", same_as="e1")]
    assert world.findings() == []


def test_personalize_can_be_left_out(world: World) -> None:
    """For a pipeline that only enriches."""
    world.accepted = []
    reconciliation = world.reconciliation()
    assert reconciliation.findings(accepted=False) == []
    assert len(reconciliation.findings()) == 3


@pytest.mark.parametrize("status", [Status.UNKNOWN, Status.FAILED])
def test_a_send_without_an_answer_is_neither_lost_nor_invented(
    world: World, status: Status
) -> None:
    """It may be on the topic or not."""
    number = next(n for n, row in enumerate(world.rows) if row.event_id == "e1")
    world.rows[number] = replace(
        world.rows[number], status=status, partition=None, offset=None, timestamp=None
    )
    assert world.findings() == []
    lose("e1")(world)
    reconciliation = world.reconciliation()
    assert reconciliation.findings() == []
    assert reconciliation.tally.unacknowledged == 1


def test_a_song_with_an_unanswered_version_is_not_checked(world: World) -> None:
    """How often is counted."""
    number = next(n for n, row in enumerate(world.rows) if row.entity == "s1")
    world.rows[number] = replace(world.rows[number], status=Status.UNKNOWN)
    change("e1", item=None)(world)
    reconciliation = world.reconciliation()
    assert reconciliation.findings() == []
    assert reconciliation.tally.unchecked > 0


def test_records_of_other_producers_are_no_findings(world: World) -> None:
    """Those before the first offset of the run."""
    add_enriched(event_id="before", origin="interactions/0/42")(world)
    world.letters.append({**world.letters[0], "offset": 41})
    reconciliation = world.reconciliation()
    reconciliation.add_accepted(Accepted("before", T0), lambda _: True)
    assert reconciliation.findings(START) == []
    assert reconciliation.tally.other_enriched == 1
    assert reconciliation.tally.other_dead_letters == 1
    assert reconciliation.tally.other_accepted == 1


def test_versions_of_earlier_runs_count() -> None:
    """An earlier run's newer version stays the newest."""
    earlier = World(version("songs", {**SONG, "title": "Earlier", "updated_at": 900}))
    (row,) = earlier.rows
    now = World(version("users", USER), version("songs", SONG), event("e1"))
    before = replace(row, offset=50)
    found = now.reconciliation(earlier_versions=[before]).findings()
    assert [(one.fault, one.id) for one in found] == [(Fault.MISENRICHED, "e1")]
    item = {"title": "Earlier", "origin": "songs/0/50"}
    change_attached("e1", "item", **item)(now)
    assert now.reconciliation(earlier_versions=[before]).findings() == []


def test_an_undecodable_output_is_a_finding(world: World) -> None:
    """By its position."""
    reconciliation = world.reconciliation()
    reconciliation.add_unreadable("interactions-enriched/0/9", "truncated_body: short")
    assert [(one.fault, one.id) for one in reconciliation.findings()] == [
        (Fault.UNREADABLE, "interactions-enriched/0/9")
    ]
