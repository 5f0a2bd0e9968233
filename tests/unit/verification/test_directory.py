"""Replay sets on disk: their schedule, their mistakes, and the real one where it is present."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from schemas.model import load_contracts
from verification.directory import ReplayDirectory, ReplaySetError
from verification.entries import Entry, Kind
from verification.publications import Publisher, UnusableEntry

CONTRACTS = load_contracts()
NOW = 1_800_000_000_000
LASTFM = Path(os.environ.get("TUNEMESH_LASTFM", Path(__file__).parents[4] / "shared/replay/lastfm"))


def line(**fields: Any) -> str:
    return json.dumps(fields)


def event(number: int, at: int, **fields: Any) -> str:
    record = {
        "event_id": f"e{number}", "user_id": "u1", "session_id": "x", "item_id": "s1",
        "event_type": "play", "occurred_at": at,
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
    schedule = {"songs": [{"line": 2, "at_ms": 300}, {"line": 3, "at_ms": 900}]}
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
        songs=[song("first", updated_at=5), song("second", updated_at=200)],
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
