"""The synthetic hour, and the records that cannot be used."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from uuid import UUID

import pytest

from schemas.codec import Decoder
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord, Reason
from schemas.model import load_contracts
from tests.unit.verification.test_directory import newest_versions
from verification.entries import Entry, Kind
from verification.generator import GENRES, GeneratedHour, Hour
from verification.malformed import DIMENSION_REASONS, INTERACTION_REASONS
from verification.publications import Publication, Publisher

START = 1_763_000_000_000
CONTRACTS = load_contracts()
VERSION_IDS = {c.name: UUID(int=n) for n, c in enumerate(CONTRACTS, 1)}


REGISTRY = newest_versions(VERSION_IDS)


def hour(interactions: int = 4_000, *, anomalies: bool = False, seed: int = 7) -> GeneratedHour:
    return GeneratedHour(Hour(interactions, START, seed=seed, anomalies=anomalies))


def events(source: GeneratedHour) -> list[Entry]:
    return [entry for entry in source.stream() if entry.domain == "interactions"]


def published(entries: list[Entry]) -> list[Publication]:
    publisher = Publisher(CONTRACTS, VERSION_IDS)
    return [publisher.create_publication(entry, START + 3_600_000) for entry in entries]


def test_the_same_seed_generates_the_same_hour() -> None:
    """Entry for entry, also if it is read in part or twice."""
    source = hour(anomalies=True)
    first = [*source.dimensions(), *source.stream()]
    assert first == [*source.dimensions(), *source.stream()]
    again = hour(anomalies=True)
    assert list(itertools.islice(again.stream(), 100)) == list(source.stream())[:100]


def test_another_seed_or_start_generates_other_events() -> None:
    """Two runs never share an event id."""
    ids = [
        {entry.record["event_id"] for entry in events(source) if entry.record}
        for source in (hour(), hour(seed=8), GeneratedHour(Hour(4_000, START + 1, seed=7)))
    ]
    assert all(len(found) == 4_000 for found in ids)
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]


def test_an_hour_without_anomalies_is_in_order_and_valid() -> None:
    """Nothing is repeated, late, missing or malformed; updates and deletions are included."""
    source = hour()
    catalogue = {next(iter(e.record.values())) for e in source.dimensions() if e.record}
    found = events(source)
    assert {entry.kind for entry in found} == {Kind.VALID}
    records = [entry.record or {} for entry in found]
    times = [record["occurred_at"] for record in records]
    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] < START + 3_600_000
    assert {record["item_id"] for record in records} <= catalogue
    assert {record["user_id"] for record in records} - {None} <= catalogue
    changes = [entry for entry in source.stream() if entry.domain != "interactions"]
    assert any(entry.record is None for entry in changes)
    assert any(entry.record and entry.record.get("deleted") for entry in changes)
    assert any(entry.record and not entry.record.get("deleted") for entry in changes)


def test_anomalies_have_exact_shares() -> None:
    """The shares of the module; malformed records for every reason."""
    source = hour(20_000, anomalies=True)
    found = events(source)
    kinds = Counter(entry.kind for entry in found)
    assert kinds[Kind.VALID] == 20_000
    assert kinds[Kind.DUPLICATE] == pytest.approx(100, abs=4)
    assert kinds[Kind.MALFORMED] == pytest.approx(200, abs=6)
    reasons = Counter(entry.reason for entry in found if entry.kind is Kind.MALFORMED)
    assert set(reasons) == set(INTERACTION_REASONS)
    assert set(INTERACTION_REASONS) == set(Reason)
    assert max(reasons.values()) - min(reasons.values()) <= 1
    records = [e.record for e in found if e.kind is Kind.VALID and e.record]
    missing = [r for r in records if len(r["item_id"]) == 11]
    assert len(missing) == pytest.approx(40, abs=1)
    assert sum(1 for r in records if r["user_id"] and len(r["user_id"]) == 11) in (19, 20, 21)
    newest, late = 0, []
    for record in records:
        if record["occurred_at"] < newest:
            late.append(newest - record["occurred_at"])
        newest = max(newest, record["occurred_at"])
    assert len(late) == pytest.approx(400, abs=2)
    assert 0 < max(late) <= 30_000


def test_a_duplicate_equals_its_original() -> None:
    """Half of them at once, the others later."""
    found = events(hour(20_000, anomalies=True))
    first = {
        e.record["event_id"]: n for n, e in enumerate(found) if e.kind is Kind.VALID and e.record
    }
    gaps = []
    for number, entry in enumerate(found):
        if entry.kind is Kind.DUPLICATE and entry.record:
            original = first[entry.record["event_id"]]
            assert found[original].record == entry.record
            gaps.append(number - original)
    assert min(gaps) == 1
    assert sum(1 for gap in gaps if gap == 1) == pytest.approx(len(gaps) / 2, abs=2)


def test_some_updates_arrive_after_a_newer_one_and_some_users_come_back() -> None:
    """The older update is sent later; a deletion may be followed by the record again."""
    versions = defaultdict(list)
    for entry in hour(20_000, anomalies=True).stream():
        if entry.domain != "interactions" and entry.record:
            versions[next(iter(entry.record.values()))].append(entry.record)
    stale = [
        chain
        for chain in versions.values()
        if len(chain) == 2 and chain[0].get("updated_at", 0) > chain[1].get("updated_at", 0)
    ]
    revived = [
        chain
        for chain in versions.values()
        if chain[0].get("deleted") and not chain[-1].get("deleted")
    ]
    assert len(stale) >= 5
    assert len(revived) >= 3


def test_updates_precede_the_first_event_of_their_time() -> None:
    """No event at or after an update's time is sent before it."""
    source = hour(anomalies=True)
    planned = {id(step.entry): step.at_ms for step in source._schedule}
    newest = 0
    for entry in source.stream():
        if id(entry) in planned:
            assert newest < planned[id(entry)]
        elif entry.record:
            newest = max(newest, entry.record["occurred_at"])


def test_users_prefer_their_genres() -> None:
    """Half of a user's songs are of one cluster, so a recommender can learn."""
    by_user: dict[str, Counter[str]] = defaultdict(Counter)
    skipped: Counter[bool] = Counter()
    for entry in events(hour(20_000)):
        record = entry.record or {}
        if record["user_id"] and record["item_type"] == "song":
            genre = GENRES[(int(record["item_id"][1:]) - 1) % len(GENRES)]
            by_user[record["user_id"]][genre] += 1
            skipped[record["event_type"] == "skip"] += 1
    active = [plays for plays in by_user.values() if plays.total() >= 20]
    assert len(active) > 50
    shares = sorted(plays.most_common(1)[0][1] / plays.total() for plays in active)
    assert shares[len(shares) // 2] > 0.6
    assert len({plays.most_common(1)[0][0] for plays in active}) == len(GENRES)
    assert 0.1 < skipped[True] / skipped.total() < 0.4


def test_some_events_are_anonymous_and_some_are_recommended() -> None:
    """Optional fields are used, within the service's limits."""
    records = [entry.record or {} for entry in events(hour())]
    assert any(record["user_id"] is None for record in records)
    recommended = [record for record in records if "recommendation_id" in record]
    assert len(recommended) > 100
    assert all(len(record["recommendation_id"]) <= 40 for record in recommended)
    assert all(record["item_id"] in record["impression"] for record in recommended)


@pytest.mark.parametrize("domain", ["interactions", "users", "songs", "podcasts"])
def test_a_malformed_record_is_refused_for_the_reason_the_ledger_has(domain: str) -> None:
    """The decoder reports the reason; other reasons are in the fields."""
    source = hour(3_000, anomalies=True)
    entries = [e for e in (*source.dimensions(), *source.stream()) if e.domain == domain]
    malformed = published([entry for entry in entries if entry.kind is Kind.MALFORMED])
    reasons = INTERACTION_REASONS if domain == "interactions" else DIMENSION_REASONS
    assert {p.reason for p in malformed} == set(reasons)
    decoder = Decoder(CONTRACTS[domain], REGISTRY)
    # These decode; it is their fields that cannot be used.
    in_fields = {Reason.MISSING_ID, Reason.FUTURE_TIMESTAMP, Reason.INVALID_VALUE}
    for publication in malformed:
        if publication.reason in in_fields:
            record = decoder.decode(publication.value)
            if publication.reason is Reason.MISSING_ID:
                assert "" in record.values()
            if publication.reason is Reason.FUTURE_TIMESTAMP:
                name = "occurred_at" if domain == "interactions" else "updated_at"
                assert record[name] > START + 1000 * 86_400_000
            if publication.reason is Reason.INVALID_VALUE:
                assert max(len(v) for v in record.values() if isinstance(v, str)) > 256
            continue
        with pytest.raises(InvalidRecord) as refused:
            decoder.decode(publication.value)
        assert refused.value.reason is publication.reason


def test_everything_else_decodes_to_what_was_generated() -> None:
    """Valid events, duplicates and versions, with the contract's keys."""
    source = hour(anomalies=True)
    entries = [e for e in (*source.dimensions(), *source.stream()) if e.kind is not Kind.MALFORMED]
    decoders = {c.name: Decoder(c, REGISTRY) for c in CONTRACTS.sources}
    for entry, publication in zip(entries, published(entries), strict=True):
        assert publication.key
        if entry.record is None:
            assert publication.value is None
            assert publication.deleted
            continue
        record = decoders[entry.domain].decode(publication.value)
        assert entry.record.items() <= record.items()
        expected = (
            record["user_id"] or record["session_id"]
            if entry.domain == "interactions"
            else next(iter(record.values()))
        )
        assert publication.key.decode() == expected


@pytest.mark.parametrize(
    "wrong", [{"interactions": 0}, {"malformed_share": 1.0}, {"users": 3}, {"songs": 1}]
)
def test_invalid_settings_are_refused(wrong: dict[str, int]) -> None:
    """With the name of the setting and the expected value."""
    with pytest.raises(TunemeshError, match="expected"):
        Hour(**{"interactions": 10, "start_ms": START, **wrong})  # type: ignore[arg-type]
