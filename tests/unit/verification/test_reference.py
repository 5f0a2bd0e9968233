"""The oracle: which version of a user or item an enriched event may carry."""

from __future__ import annotations

import pytest

from schemas.model import load_contracts
from verification.reference import (
    NOTHING_PUBLISHED,
    History,
    Version,
    differing_fields,
    find_problem,
    item_content,
    user_content,
)

P = 100_000
"""When the event is published, in these cases."""
E = 100_200
"""When its enriched record is emitted."""


def version(
    offset: int, published: int, updated: int | None = None, deleted: bool = False
) -> Version:
    return Version(f"songs/0/{offset}", published, offset, updated, deleted)


def verdict(attached: int | None, *versions: Version, tolerance: int = 0) -> str | None:
    origin = None if attached is None else f"songs/0/{attached}"
    return find_problem(History(versions), origin, P, E, tolerance)


OLD = version(0, 10_000)
FRESH = version(1, 50_000)
DURING = version(1, P + 100)


@pytest.mark.parametrize(
    ("attached", "versions"),
    [
        pytest.param(0, [OLD], id="the only version"),
        pytest.param(1, [OLD, FRESH], id="the newest of two"),
        pytest.param(0, [OLD, DURING], id="the newest at publication"),
        pytest.param(1, [OLD, DURING], id="the newest at emission"),
        pytest.param(1, [OLD, DURING, version(2, P + 150)], id="the newest in between"),
        pytest.param(0, [OLD, version(1, P)], id="superseded in the millisecond of publication"),
        pytest.param(1, [OLD, version(1, P)], id="published in the millisecond of the event"),
        pytest.param(1, [OLD, version(1, E)], id="published in the millisecond of emission"),
        pytest.param(0, [version(0, P - 1)], id="published just before the event"),
        pytest.param(0, [version(0, P + 1)], id="first published after the event"),
        pytest.param(0, [version(0, 10_000, 900), version(1, 50_000, 800)], id="late older one"),
        pytest.param(0, [version(0, 10_000, 900), version(1, P + 9, 800)], id="late older during"),
        pytest.param(1, [version(0, 10_000, 900), version(1, 50_000, 900)], id="tie by offset"),
        pytest.param(1, [version(0, 10_000, 900), version(1, 50_000)], id="no updated_at: Kafka's"),
        pytest.param(1, [version(0, 10_000, 90_000), version(1, 50_000, 40_000)], id="clock ahead"),
        pytest.param(
            2, [OLD, version(1, 20_000, deleted=True), version(2, 30_000)], id="back again"
        ),
        pytest.param(0, [OLD, version(1, P + 9, deleted=True)], id="deleted during"),
    ],
)
def test_a_version_that_was_the_newest_at_some_time_is_right(
    attached: int, versions: list[Version]
) -> None:
    """From publication to emission, both milliseconds included."""
    assert verdict(attached, *versions) is None


@pytest.mark.parametrize(
    ("attached", "versions", "says"),
    [
        pytest.param(0, [OLD, FRESH], "stale: songs/0/1", id="an older one"),
        pytest.param(0, [OLD, version(1, P - 1)], "stale: songs/0/1", id="superseded just before"),
        pytest.param(1, [OLD, version(1, E + 1)], "later", id="from after the emission"),
        pytest.param(
            1,
            [version(0, 10_000, 900), version(1, 50_000, 800)],
            "older",
            id="an older one that arrived late",
        ),
        pytest.param(
            1,
            [version(0, 10_000, 900), version(1, P + 9, 800)],
            "older",
            id="an older one that arrived late during the event",
        ),
        pytest.param(0, [version(0, 10_000, 900), version(1, 50_000, 900)], "stale", id="tie"),
        pytest.param(0, [OLD, version(1, 50_000, deleted=True)], "songs/0/1", id="deleted before"),
        pytest.param(1, [OLD, version(1, 50_000, deleted=True)], "deletion", id="the deletion"),
        pytest.param(7, [OLD], "not a version", id="a version of something else"),
        pytest.param(7, [], "not a version", id="nothing was ever published"),
    ],
)
def test_any_other_version_is_wrong(attached: int, versions: list[Version], says: str) -> None:
    """Older, newer, late, deleted, foreign: each is named."""
    problem = verdict(attached, *versions)
    assert problem is not None
    assert says in problem


@pytest.mark.parametrize(
    "versions",
    [
        pytest.param([], id="never published"),
        pytest.param([version(0, P - 4_999)], id="less than 5 s before"),
        pytest.param([version(0, P - 5_000)], id="exactly 5 s before, to the millisecond"),
        pytest.param([version(0, P + 1)], id="published after the event"),
        pytest.param([version(0, E + 1)], id="published after the emission"),
        pytest.param([OLD, version(1, 50_000, deleted=True)], id="deleted"),
        pytest.param([OLD, version(1, E, deleted=True)], id="deleted until the emission"),
        pytest.param(
            [OLD, version(1, 50_000, deleted=True), version(2, P - 3_000)],
            id="back for less than 5 s",
        ),
        pytest.param(
            [version(0, 10_000, 900, deleted=True), version(1, 50_000, 800)],
            id="an older one arrived after the deletion",
        ),
    ],
)
def test_nothing_attached_is_right_if_nothing_was_published(versions: list[Version]) -> None:
    """Unknown, deleted, or published less than 5 s before the event."""
    assert verdict(None, *versions) is None


@pytest.mark.parametrize(
    "versions",
    [
        pytest.param([OLD], id="long before"),
        pytest.param([version(0, P - 5_001)], id="just more than 5 s before"),
        pytest.param([version(0, 10_000), version(1, P - 100)], id="an update does not excuse it"),
        pytest.param([OLD, version(1, 20_000, deleted=True), version(2, 30_000)], id="back again"),
        pytest.param([OLD, version(1, E + 1, deleted=True)], id="deleted after the emission"),
        pytest.param(
            [version(0, 10_000, 900), version(1, 50_000, 800, deleted=True)],
            id="a deletion older than the version",
        ),
    ],
)
def test_nothing_attached_is_wrong_if_a_version_was_published(versions: list[Version]) -> None:
    """Published, not deleted, 5 s or more before the event."""
    problem = verdict(None, *versions)
    assert problem is not None
    assert problem.startswith("missing")


def test_a_tolerance_accepts_older_versions() -> None:
    """For systems that guarantee less."""
    versions = [OLD, version(1, P - 100)]
    assert verdict(0, *versions) is not None
    assert verdict(0, *versions, tolerance=99) is not None
    assert verdict(0, *versions, tolerance=101) is None


def test_an_uncertain_history_is_not_checked() -> None:
    """A version that was sent without an answer may be on the topic or not."""
    history = History([OLD, FRESH], uncertain=True)
    assert find_problem(history, "songs/0/0", P, E) is None
    assert find_problem(history, None, P, E) is None


def test_versions_may_be_added_in_any_order() -> None:
    """Ledgers of several runs are read one after the other."""
    history = History()
    for one in (version(2, 30_000, 30_000), OLD, version(1, 20_000, 900)):
        history.add(one)
        history.newest_during(P, E)
    assert [v.origin for v in history.newest_during(P, E) if v] == ["songs/0/2"]
    assert find_problem(NOTHING_PUBLISHED, None, P, E) is None


def test_songs_are_projected_by_their_contract() -> None:
    """Seconds become milliseconds, the artist the creator, the release the creation."""
    mapping = load_contracts()["songs"].item
    assert mapping is not None
    record = {
        "song_id": "s1", "title": "One", "artist": "A", "genres": ["rock", "jazz"],
        "duration_seconds": 61, "released_at": 5, "updated_at": 9, "deleted": False,
    }  # fmt: skip
    expected = {
        "item_type": "song", "title": "One", "creator": "A", "genres": ["rock", "jazz"],
        "duration_ms": 61_000, "language": None, "created_at": 5,
    }  # fmt: skip
    assert item_content(mapping, record) == expected
    bare = {**record, "artist": None, "duration_seconds": None, "released_at": None, "genres": []}
    assert item_content(mapping, bare) == {
        **expected, "creator": None, "duration_ms": None, "created_at": None, "genres": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("host", "publisher", "creator"),
    [("H", "N", "H"), (None, "N", "N"), ("", "N", "N"), ("H", None, "H"), (None, None, None)],
)
def test_a_podcast_is_by_its_host_else_its_publisher(
    host: str | None, publisher: str | None, creator: str | None
) -> None:
    """The first of the contract's creator fields with a value."""
    mapping = load_contracts()["podcasts"].item
    assert mapping is not None
    record = {
        "podcast_id": "p1", "title": "Two", "publisher": publisher, "host": host,
        "categories": ["News"], "language": "en", "updated_at": 1, "deleted": False,
    }  # fmt: skip
    assert item_content(mapping, record) == {
        "item_type": "podcast", "title": "Two", "creator": creator, "genres": ["News"],
        "duration_ms": None, "language": "en", "created_at": None,
    }  # fmt: skip


def test_users_are_projected_by_their_contract() -> None:
    """Only the fields of an enriched event."""
    mapping = load_contracts()["users"].user
    assert mapping is not None
    record = {
        "user_id": "u1", "country": "DE", "age_band": None, "subscription": "free",
        "created_at": 3, "updated_at": 4, "deleted": False,
    }  # fmt: skip
    assert user_content(mapping, record) == {
        "country": "DE", "age_band": None, "subscription": "free", "created_at": 3,
    }  # fmt: skip


def test_changed_missing_and_surplus_fields_differ() -> None:
    """A null field is not a missing field."""
    assert differing_fields({"a": 1, "b": None, "c": 3}, {"a": 1, "c": 4, "d": 5}) == [
        "b",
        "c",
        "d",
    ]
    assert differing_fields({"a": [1]}, {"a": [1]}) == []
