"""Replay sets on disk: their schedule, their mistakes, and the real one where it is present."""

from __future__ import annotations

import gzip
import json
import os
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from schemas.codec import Decoder, RegisteredSchema
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Role, load_contracts
from schemas.rules import check_id, check_interaction, check_version
from tests.unit.schemas.test_codec import Registry
from verification.anomalies import Anomalies
from verification.directory import ReplayDirectory, ReplaySetError
from verification.entries import Entry, Kind
from verification.malformed import DIMENSION_REASONS
from verification.publications import Publisher, UnusableEntry

CONTRACTS = load_contracts()
NOW = 1_800_000_000_000
START = NOW - 86_400_000
LASTFM = Path(os.environ.get("TUNEMESH_LASTFM", Path(__file__).parents[4] / "shared/replay/lastfm"))


def line(**fields: Any) -> str:
    return json.dumps(fields)


def event(number: int, at: int, **fields: Any) -> str:
    record = {
        "event_id": f"e{number}", "user_id": "u1", "session_id": "x", "item_id": "s1",
        "event_type": "play", "occurred_at": START + at,
    }  # fmt: skip
    return json.dumps(record | fields)


def song(title: str, **fields: Any) -> str:
    return json.dumps({"song_id": "s1", "title": title, "genres": []} | fields)


def write(folder: Path, **files: list[str]) -> ReplayDirectory:
    for name, lines in files.items():
        (folder / f"{name}.ndjson").write_text("".join(f"{one}\n" for one in lines))
    return ReplayDirectory(folder, CONTRACTS)


def check(source: ReplayDirectory) -> None:
    publisher = Publisher(CONTRACTS, {c.name: UUID(int=1) for c in CONTRACTS})
    for entry in (*source.dimensions(), *source.stream()):
        publisher.create_publication(entry, NOW)


def names(entries: list[Entry]) -> list[Any]:
    return [
        e.key if e.record is None else e.record.get("title") or e.record.get("event_id")
        for e in entries
    ]


def test_scheduled_lines_are_sent_at_their_time(tmp_path: Path) -> None:
    """Before the first event at or after it; a late event does not change that."""
    schedule = {"songs": [{"line": 2, "at_ms": START + 300}, {"line": 3, "at_ms": START + 900}]}
    (tmp_path / "expected.json").write_text(json.dumps({"schedule": schedule}))
    source = write(
        tmp_path,
        songs=[song("first"), song("second"), song("last")],
        interactions=[event(1, 100), event(2, 299), event(3, 300), event(4, 150), event(5, 400)],
    )
    assert names(list(source.dimensions())) == ["first"]
    assert names(list(source.stream())) == ["e1", "e2", "second", "e3", "e4", "e5", "last"]
    assert (source.dimension_count, source.stream_count) == (1, 7)


def test_without_a_schedule_later_lines_are_updates_at_their_updated_at(tmp_path: Path) -> None:
    """A line without updated_at is sent with the first lines."""
    source = write(
        tmp_path,
        songs=[song("first", updated_at=5), song("second", updated_at=START + 200)],
        users=[line(user_id="u1", country="DE"), line(user_id="u1", country="FR")],
        interactions=[event(1, 100), event(2, 200)],
    )
    assert [entry.domain for entry in source.dimensions()] == ["users", "users", "songs"]
    assert names(list(source.stream())) == ["e1", "second", "e2"]


def test_deletions_are_sent_in_both_forms(tmp_path: Path) -> None:
    """Odd lines as records with deleted, even ones as null values."""
    source = write(
        tmp_path,
        users=[line(user_id="u1", deleted=True), line(user_id="u2", deleted=True)],
        interactions=[event(1, 1)],
    )
    odd, even = source.dimensions()
    assert odd.record == {"user_id": "u1", "deleted": True}
    assert (even.record, even.key) == (None, "u2")
    check(source)


def test_a_repeated_event_is_a_duplicate(tmp_path: Path) -> None:
    """By its event_id."""
    source = write(tmp_path, interactions=[event(1, 1), event(2, 2), event(1, 1)])
    assert [entry.kind for entry in source.stream()] == [Kind.VALID, Kind.VALID, Kind.DUPLICATE]


def test_gzip_files_and_empty_lines_are_read(tmp_path: Path) -> None:
    """Like plain files."""
    with gzip.open(tmp_path / "interactions.ndjson.gz", "wt") as file:
        file.write(f"{event(1, 1)}\n\n{event(2, 2)}\n")
    source = ReplayDirectory(tmp_path, CONTRACTS)
    assert names(list(source.stream())) == ["e1", "e2"]
    assert source.stream_count == 2


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{nonsense", "not JSON"),
        ("[1]", "expected a JSON object"),
        (event(2, 2, colour="red"), "unknown field colour"),
        (line(event_id="e2", session_id="x"), "'item_id' is missing"),
        (event(2, 2, occurred_at="noon"), "noon"),
        (event(2, 2, event_id=""), "event_id is empty"),
        (event(2, 2, session_id=""), "session_id is empty"),
        (event(2, NOW + 90_000_000), "more than a day after"),
        (event(2, 2, device="x" * 20_000), "allows 10240"),
    ],
)
def test_a_line_that_cannot_be_sent_is_named(tmp_path: Path, bad: str, says: str) -> None:
    """With the file, the line number and the reason."""
    source = write(tmp_path, interactions=[event(1, 1), bad])
    with pytest.raises((ReplaySetError, UnusableEntry)) as refused:
        check(source)
    assert f"{tmp_path / 'interactions.ndjson'}, line 2: " in str(refused.value)
    assert says in str(refused.value)


def test_a_dimension_line_without_its_id_is_named(tmp_path: Path) -> None:
    """Users and items need a key."""
    source = write(tmp_path, users=[line(user_id="")], interactions=[event(1, 1)])
    with pytest.raises(UnusableEntry, match="line 1: user_id is empty"):
        check(source)


def decoded_reason(entry: Entry) -> Reason | None:
    """The reason for which the decode step refuses an entry, at the time of its publication."""
    version_ids = {c.name: UUID(int=number) for number, c in enumerate(CONTRACTS.sources, 1)}
    publication = Publisher(CONTRACTS, version_ids).create_publication(entry, NOW)
    assert publication.kind is Kind.MALFORMED
    contract = CONTRACTS[entry.domain]
    try:
        record = Decoder(contract, newest_versions(version_ids)).decode(publication.value)
        if contract.role is Role.INTERACTION:
            check_interaction(record, NOW)  # type: ignore[arg-type]
        else:
            check_id(contract.key, record[contract.key])
            check_version(record["updated_at"] or 0, NOW)
    except InvalidRecord as error:
        return error.reason
    return None


def newest_versions(version_ids: Mapping[str, UUID]) -> Registry:
    """A registry with the newest version of each contract."""
    return Registry(
        {
            version_id: RegisteredSchema(CONTRACTS[name].subject, CONTRACTS[name].newest.definition)
            for name, version_id in version_ids.items()
        }
    )


EVENT = json.loads(event(1, 1))
MALFORMED_EVENTS = [
    *({**EVENT, "$malformed": reason} for reason in Reason),
    {**EVENT, "$malformed": "missing_id", "item_id": ""},
    {**EVENT, "$malformed": "future_timestamp", "occurred_at": NOW + 90_000_000},
    {**EVENT, "$malformed": "invalid_value", "session_id": "x" * 300},
    {**EVENT, "$malformed": "oversize", "device": "x" * 20_000},
    {"$malformed": "bad_magic_byte", "$value": b64encode(b"{}").decode(), "$key": "u1"},
]


def test_a_malformed_line_becomes_the_dead_letter_that_it_names(tmp_path: Path) -> None:
    """Of each reason; a record that is malformed already is sent as it stands."""
    lines = [json.dumps(record) for record in MALFORMED_EVENTS]
    source = write(tmp_path, interactions=[event(1, 1), *lines])
    valid, *malformed = source.stream()
    assert valid.kind is Kind.VALID
    reasons = [record["$malformed"] for record in MALFORMED_EVENTS]
    assert [decoded_reason(entry) for entry in malformed] == reasons
    assert malformed[-1].value == b"{}"


def test_a_malformed_user_or_item_is_sent_in_its_place(tmp_path: Path) -> None:
    """With the first lines, or as an update."""
    records: list[dict[str, Any]] = [
        {"song_id": "s1", "title": "t", "genres": [], "$malformed": reason}
        for reason in DIMENSION_REASONS
    ]
    records.append({"$malformed": "bad_magic_byte", "$value": "e30=", "$key": "s1"})
    source = write(
        tmp_path, songs=[json.dumps(record) for record in records], interactions=[event(1, 1)]
    )
    expected = [*DIMENSION_REASONS, Reason.BAD_MAGIC_BYTE]
    assert [decoded_reason(entry) for entry in source.dimensions()] == expected


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"$malformed": "nonsense", **EVENT}, "'nonsense' is not a valid Reason; expected $mal"),
        ({"$malformed": "oversize", "$value": "%"}, "$value to be base64"),
        ({"$malformed": "oversize", "$value": "e30=", "device": "x"}, "has no fields, but device"),
    ],
)
def test_a_malformed_line_is_checked_itself(tmp_path: Path, bad: dict[str, Any], says: str) -> None:
    """Its place and what is expected are named."""
    source = write(tmp_path, interactions=[event(1, 1), json.dumps(bad)])
    with pytest.raises(ReplaySetError) as refused:
        check(source)
    assert f"{tmp_path / 'interactions.ndjson'}, line 2: " in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"$malformed": "empty_value", "user_id": "u1"}, "without a value deletes"),
        ({"$malformed": "oversize", "$value": "e30="}, "$key is missing"),
    ],
)
def test_a_malformed_user_needs_a_key_and_a_value(
    tmp_path: Path, bad: dict[str, Any], says: str
) -> None:
    """The topic is compacted, and a null value is a deletion."""
    source = write(tmp_path, users=[json.dumps(bad)], interactions=[event(1, 1)])
    with pytest.raises(ReplaySetError, match=re.escape(says)):
        check(source)


def test_anomalies_are_added_to_a_set(tmp_path: Path) -> None:
    """Malformed records of every kind in every domain, duplicates, late events; none is lost."""
    lines = [event(number, number * 1_000) for number in range(1, 2_001)]
    write(tmp_path, songs=[song("first", duration_seconds=5)], interactions=lines)
    source = ReplayDirectory(tmp_path, CONTRACTS, Anomalies(malformed_share=0.02))
    check(source)
    dimensions, stream = list(source.dimensions()), list(source.stream())
    assert len(dimensions) == source.dimension_count == 1 + len(DIMENSION_REASONS)
    assert [e.reason for e in dimensions[1:]] == list(DIMENSION_REASONS)
    kinds = Counter(entry.kind for entry in stream)
    assert len(stream) == pytest.approx(source.stream_count, rel=0.01)
    assert kinds[Kind.VALID] == 2_000
    assert (kinds[Kind.DUPLICATE], kinds[Kind.MALFORMED]) == (10, 40)
    assert {e.reason for e in stream if e.kind is Kind.MALFORMED} == set(Reason)
    valid = [e.record["occurred_at"] for e in stream if e.kind is Kind.VALID and e.record]
    assert valid != sorted(valid)
    assert len(set(valid)) == 2_000


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    """A misspelt name, a contract that is elsewhere, a second file of a domain; and what lacks."""
    (tmp_path / "README.md").write_text("")
    (tmp_path / "interactions.ndjson.gz").write_bytes(gzip.compress(b""))
    files = {"user": [], "audiobooks": [], "songs": [song("one")], "interactions": [event(1, 1)]}
    notes = write(tmp_path, **files).notes
    no_contract = "no contract has this name; there are: interactions, podcasts, songs, users"
    assert [note.partition(". TUNEMESH")[0] for note in notes] == [
        f"{tmp_path / 'audiobooks.ndjson'} is ignored: {no_contract}",
        f"{tmp_path / 'interactions.ndjson.gz'} is ignored: there is another file of this domain",
        f"{tmp_path / 'user.ndjson'} is ignored: {no_contract}",
        f"{tmp_path} has no file of podcasts, users",
    ]


def test_an_update_time_that_is_no_number_is_named(tmp_path: Path) -> None:
    """Like any other value that does not fit."""
    users = [line(user_id="u1"), line(user_id="u1", updated_at="noon")]
    source = write(tmp_path, users=users, interactions=[event(1, 1)])
    with pytest.raises(UnusableEntry, match=r"line 2: .*noon"):
        check(source)


def test_an_invalid_replay_set_is_refused(tmp_path: Path) -> None:
    """Missing folder, no interactions, truncated file, schedule of a missing line."""
    with pytest.raises(ReplaySetError, match="is not a directory"):
        ReplayDirectory(tmp_path / "nowhere", CONTRACTS)
    with pytest.raises(ReplaySetError, match="no interactions"):
        ReplayDirectory(tmp_path, CONTRACTS)
    path = tmp_path / "interactions.ndjson.gz"
    path.write_bytes(gzip.compress(event(1, 1).encode() * 500)[:-20])
    with pytest.raises(ReplaySetError, match=r"interactions\.ndjson\.gz"):
        ReplayDirectory(tmp_path, CONTRACTS)
    path.unlink()
    (tmp_path / "expected.json").write_text('{"schedule": {"songs": [{"line": 9, "at_ms": 1}]}}')
    with pytest.raises(ReplaySetError, match=r"line 9 of songs\.ndjson, which has 1 lines"):
        write(tmp_path, songs=[song("one")], interactions=[event(1, 1)])
    (tmp_path / "expected.json").write_text('{"schedule": {"songs": [{"line": 1}]}}')
    with pytest.raises(ReplaySetError, match="schedule is invalid"):
        write(tmp_path, songs=[song("one")], interactions=[event(1, 1)])


@pytest.mark.skipif(not LASTFM.is_dir(), reason="the Last.fm replay set is not on this machine")
def test_the_lastfm_set_is_as_expected() -> None:
    """Every line fits its contract; counts as in expected.json."""
    expected = json.loads((LASTFM / "expected.json").read_text())
    source = ReplayDirectory(LASTFM, CONTRACTS)
    check(source)
    dimensions = list(source.dimensions())
    assert Counter(entry.domain for entry in dimensions) == {
        "users": expected["catalog_users"],
        "songs": expected["catalog_songs"],
        "podcasts": expected["catalog_podcasts"],
    }
    catalogue = {next(iter(entry.record.values())) for entry in dimensions if entry.record}
    kinds: Counter[Kind] = Counter()
    changes: Counter[tuple[str, str]] = Counter()
    missing = late = newest = 0
    for entry in source.stream():
        if entry.domain != "interactions":
            gone = entry.record is None or bool(entry.record.get("deleted"))
            form = "tombstone" if entry.record is None else "deleted" if gone else "update"
            changes[entry.domain, form] += 1
            continue
        assert entry.record
        kinds[entry.kind] += 1
        if entry.kind is Kind.VALID:
            missing += entry.record["item_id"] not in catalogue
            late += entry.record["occurred_at"] < newest
        newest = max(newest, entry.record["occurred_at"])
    assert kinds == {
        Kind.VALID: expected["distinct_event_ids"],
        Kind.DUPLICATE: expected["duplicate_event_lines"],
    }
    assert missing == expected["missing_item_interactions"]
    assert late == expected["out_of_order_lines"]
    assert changes["songs", "update"] == expected["song_updates"]
    assert changes["podcasts", "update"] == expected["podcast_updates"]
    assert changes["users", "update"] == expected["user_updates"]
    forms = changes["users", "tombstone"], changes["users", "deleted"]
    assert sum(forms) == expected["user_tombstones"]
    assert min(forms) > 0
