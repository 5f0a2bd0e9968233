"""A user or item of any domain as the enriched interaction carries it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.invalid import InvalidRecord
from schemas.model import load_contracts
from schemas.projection import is_deleted, project_item, project_user, record_id, updated_at
from schemas.rules import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

CONTRACTS = load_contracts()
USERS, SONGS, PODCASTS = CONTRACTS["users"], CONTRACTS["songs"], CONTRACTS["podcasts"]
USER: dict[str, Any] = {
    "user_id": "u-1",
    "country": "PT",
    "age_band": "25-34",
    "subscription": "free",
    "created_at": 5,
    "updated_at": 7,
    "deleted": False,
}
SONG: dict[str, Any] = {
    "song_id": "s-1",
    "title": "Title",
    "artist": "Artist",
    "genres": ["fado", "pop"],
    "duration_seconds": 211,
    "released_at": 9,
    "updated_at": None,
    "deleted": False,
}
PODCAST: dict[str, Any] = {
    "podcast_id": "p-1",
    "title": "Talk",
    "publisher": "Network",
    "host": "Host",
    "categories": ["news"],
    "language": "pt",
    "updated_at": 3,
    "deleted": True,
}


def test_a_user_is_projected_by_the_contract() -> None:
    """What the enriched interaction says of a user, and where it was read."""
    assert project_user(USERS, USER, "users/0/1") == {
        "country": "PT",
        "age_band": "25-34",
        "subscription": "free",
        "created_at": 5,
        "origin": "users/0/1",
    }


def test_a_song_is_projected_by_the_contract() -> None:
    """Seconds become milliseconds; what songs have no field for is null."""
    assert project_item(SONGS, SONG, "songs/0/1") == {
        "item_type": "song",
        "title": "Title",
        "creator": "Artist",
        "genres": ["fado", "pop"],
        "duration_ms": 211_000,
        "language": None,
        "created_at": 9,
        "origin": "songs/0/1",
    }


def test_a_podcast_is_projected_by_the_contract() -> None:
    """Its own names for the same things."""
    assert project_item(PODCASTS, PODCAST, "podcasts/1/2") == {
        "item_type": "podcast",
        "title": "Talk",
        "creator": "Host",
        "genres": ["news"],
        "duration_ms": None,
        "language": "pt",
        "created_at": None,
        "origin": "podcasts/1/2",
    }


@pytest.mark.parametrize(
    ("host", "publisher", "creator"),
    [("H", "P", "H"), (None, "P", "P"), ("", "P", "P"), (None, None, None), ("", "", None)],
)
def test_the_creator_is_the_first_that_is_known(
    host: str | None, publisher: str | None, creator: str | None
) -> None:
    """In the order of the contract; an empty text is not known."""
    record = {**PODCAST, "host": host, "publisher": publisher}
    assert project_item(PODCASTS, record, "o")["creator"] == creator


@pytest.mark.parametrize(("seconds", "ms"), [(None, None), (0, 0), (2**31 - 1, 2_147_483_647_000)])
def test_a_duration_is_in_milliseconds(seconds: int | None, ms: int | None) -> None:
    """None stays None, zero stays zero."""
    assert project_item(SONGS, {**SONG, "duration_seconds": seconds}, "o")["duration_ms"] == ms


def test_a_duration_in_milliseconds_stays_as_it_is() -> None:
    """The unit is in the contract."""
    assert SONGS.item is not None
    plain = replace(SONGS, item=replace(SONGS.item, duration_unit_ms=1))
    assert project_item(plain, SONG, "o")["duration_ms"] == 211


@pytest.mark.parametrize("created", [MIN_TIMESTAMP_MS - 1, MAX_TIMESTAMP_MS + 1, 2**63 - 1])
def test_a_creation_outside_of_the_calendar_is_refused(created: int) -> None:
    """Exports refuse it, and readers of logical types have no such date."""
    with pytest.raises(InvalidRecord, match=r"^invalid_value: released_at is"):
        project_item(SONGS, {**SONG, "released_at": created}, "songs/0/1")
    with pytest.raises(InvalidRecord, match=r"^invalid_value: created_at is"):
        project_user(USERS, {**USER, "created_at": created}, "users/0/1")
    item = project_item(SONGS, {**SONG, "released_at": MIN_TIMESTAMP_MS}, "songs/0/1")
    assert item["created_at"] == MIN_TIMESTAMP_MS


def test_a_domain_without_genres_has_none() -> None:
    """An empty list: the enriched record's field is not optional."""
    assert SONGS.item is not None
    bare = replace(SONGS, item=replace(SONGS.item, genres=None, creator=()))
    item = project_item(bare, SONG, "o")
    assert (item["genres"], item["creator"]) == ([], None)


def test_deletion_and_version_are_what_the_contract_maps() -> None:
    """A domain that says neither is never deleted by a record, and has no version."""
    assert [is_deleted(USERS, USER), is_deleted(PODCASTS, PODCAST)] == [False, True]
    assert [updated_at(USERS, USER), updated_at(SONGS, SONG)] == [7, None]
    assert SONGS.item is not None
    silent = replace(SONGS, item=replace(SONGS.item, deleted=None, updated=None))
    assert not is_deleted(silent, {**SONG, "deleted": True})
    assert updated_at(silent, {**SONG, "updated_at": 7}) is None


def test_the_id_is_the_mapped_field() -> None:
    """Of users and of items."""
    assert [record_id(USERS, USER), record_id(SONGS, SONG)] == ["u-1", "s-1"]
    with pytest.raises(InvalidRecord, match="song_id"):
        record_id(SONGS, {**SONG, "song_id": ""})
