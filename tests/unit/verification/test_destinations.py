"""Destinations against their topics: each kind of difference is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.model import Role, load_contracts
from verification.destinations import (
    dataset_properties,
    is_behind,
    newest_versions,
    reconcile,
    rejected_ids,
    trends,
)

CONTRACTS = load_contracts()
SONGS = CONTRACTS["songs"]


@dataclass
class Message:
    """A Kafka message."""

    at: int
    record_key: bytes | None = None
    stamp: int = 1_000

    def topic(self) -> str:
        return "songs"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return self.record_key

    def timestamp(self) -> tuple[int, int]:
        return 2, self.stamp


def song(title: str, updated_at: int | None, deleted: bool = False) -> dict[str, Any]:
    return {"song_id": "s1", "title": title, "updated_at": updated_at, "deleted": deleted}


def test_every_difference_is_found() -> None:
    """Missing, surplus and differing documents."""
    report = reconcile("search", {"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5}, 7)
    assert (report.lost, report.invented, report.wrong) == (("a",), ("d",), ("c",))
    assert (report.expected, report.found, report.rejected, report.ok) == (3, 3, 7, False)
    assert report.document()["lost"] == ["a"]
    assert report.differences == ("c: expected 3, found 4",)
    assert report.pending == 2
    assert reconcile("search", {"a": 1}, {"a": 1}, 0).ok


def test_a_document_that_no_waiting_completes_is_not_waited_for() -> None:
    """A trend that has counted every event and differs all the same; its field is named."""
    expected = {"a": {"version": 2, "plays": 2}, "b": {"version": 2, "plays": 1}}
    found = {"a": {"version": 2, "plays": 1}, "b": {"version": 1, "plays": 1}}
    report = reconcile("trends", expected, found, 0, is_behind)
    assert report.pending == 1
    assert report.differences == (
        "a: plays: expected 2, found 1",
        "b: version: expected 2, found 1",
    )


def letter(topic: str, code: str, event_id: str | None = None) -> Any:
    return {
        "topic": topic, "partition": 0, "offset": 1, "error_code": code, "event_id": event_id
    }  # fmt: skip


def test_a_rejected_record_is_counted_at_its_destination_alone() -> None:
    """An event is no user and no item, a song is no user."""
    letters = [
        letter("interactions-enriched", "personalize.InvalidEvent", "e1"),
        letter("songs", "personalize.InvalidInputException"),
        letter("songs", "missing_id"),
    ]
    users, events = CONTRACTS.with_role(Role.USER), CONTRACTS.with_role(Role.ENRICHED)
    items = CONTRACTS.with_role(Role.ITEM)
    assert rejected_ids("personalize", letters, users) == set()
    assert rejected_ids("personalize", letters, items) == {"songs/0/1"}
    assert rejected_ids("personalize", letters, events) == {"e1"}


def test_the_newest_version_is_by_updated_at_then_offset() -> None:
    """In any order of arrival; a dead letter is not a version."""
    messages = [
        (Message(0), song("newest", 500)),
        (Message(1), song("late", 400)),
        (Message(2), song("unreadable", 900)),
    ]
    newest = newest_versions(messages, SONGS, {"songs/0/2"})
    assert {key: record and record["title"] for key, (_, _, record) in newest.items()} == {
        "s1": "newest"
    }


def test_deletions_are_versions() -> None:
    """By a field, or by a tombstone, which is ordered by its Kafka timestamp."""
    deleted = [(Message(0), song("x", 500)), (Message(1), song("x", 600, deleted=True))]
    assert newest_versions(deleted, SONGS, frozenset())["s1"] == ((600, 1), "songs/0/1", None)
    tombstone = [(Message(0), song("x", 500)), (Message(1, b"s1"), None)]
    assert newest_versions(tombstone, SONGS, frozenset())["s1"][2] is None


def test_properties_have_the_names_of_personalize() -> None:
    """Camel case, categories joined, seconds; unknown values are absent."""
    content = {"item_type": "song", "genres": ["a", "b"], "creator": None, "created_at": 12_999}
    assert dataset_properties(content) == {
        "itemType": "song",
        "genres": "a|b",
        "creationTimestamp": 12,
    }


def test_trends_are_counted() -> None:
    """Two users, one of them anonymous, and the mean of the known shares."""
    item = {"item_type": "song", "title": "Y", "genres": ["rock"], "duration_ms": 100}
    base = {
        "item_id": "s1",
        "item_type": "song",
        "occurred_at": 120_500,
        "published_at": 121_000,
        "item": item,
        "user": None,
        "session_id": "x",
    }
    found = trends(
        [
            {**base, "event_id": "1", "user_id": "u", "event_type": "play", "played_ms": 50},
            {**base, "event_id": "2", "user_id": None, "event_type": "skip", "played_ms": None},
            {**base, "event_id": "3", "user_id": "u", "event_type": "play", "played_ms": 900}
            | {"published_at": 120_500 + 600_001},
        ]
    )
    assert sorted(found) == ["genre/120000/rock", "item/120000/s1", "item_type/120000/song"]
    assert found["item/120000/s1"] == {
        "dimension": "item",
        "key": "s1",
        "label": "Y",
        "window_start": 120_000,
        "plays": 1,
        "skips": 1,
        "listeners": 2,
        "completion": 0.5,
        "version": 2,
    }
