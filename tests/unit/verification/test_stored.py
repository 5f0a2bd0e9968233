"""Expected against stored: interactions of an import and of the stream, users and items."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cli.demos.bootstrap import document, part
from schemas.model import load_contracts
from verification.entries import Entry, Kind
from verification.reconcile import Ignored
from verification.stored import Difference, Expected, Identity, Stored, compare, read_stored

CONTRACTS = load_contracts()


def play(number: int, user_id: str | None = "u1", kind: Kind = Kind.VALID) -> Entry:
    record = {
        "event_id": f"e{number}",
        "user_id": user_id,
        "item_id": f"s{number}",
        "event_type": "play",
        "occurred_at": number * 1_000 + 7,
    }
    return Entry("interactions", record, kind)


def identity_of(number: int, user_id: str | None = "u1") -> Identity:
    return (user_id, f"s{number}", "play", number)


def expected(*entries: Entry) -> Expected:
    made = Expected(CONTRACTS)
    for entry in entries:
        made.add(entry)
    return made


def stored(imported: list[Identity], streamed: list[Identity]) -> Stored:
    return Stored(Counter(imported), Counter(streamed), frozenset(), frozenset())


def test_each_once_is_no_difference() -> None:
    """By import or stream; duplicates count once, malformed records not at all."""
    source = expected(play(1), play(2), play(1, kind=Kind.DUPLICATE), play(3, kind=Kind.MALFORMED))
    found = compare(source, stored([identity_of(1)], [identity_of(2)]))
    assert found == Difference(missing=0, invented=0, twice=0)


def test_every_difference_is_counted() -> None:
    """By import and stream is twice; another user is another event."""
    source = expected(play(1), play(2), play(3, None), play(4))
    found = compare(
        source, stored([identity_of(1), identity_of(9)], [identity_of(1), identity_of(4, "u2")])
    )
    assert found == Difference(missing=3, invented=2, twice=1)


def test_users_and_items_are_those_at_the_end() -> None:
    """A record or a tombstone deletes one, which may be published again."""
    source = expected(
        Entry("users", {"user_id": "u1"}, Kind.VERSION),
        Entry("users", {"user_id": "u2"}, Kind.VERSION),
        Entry("users", {"user_id": "u2", "deleted": True}, Kind.VERSION),
        Entry("songs", {"song_id": "s1"}, Kind.VERSION),
        Entry("songs", None, Kind.VERSION, key="s1"),
        Entry("podcasts", {"podcast_id": "p1"}, Kind.VERSION),
        Entry("songs", {"song_id": "s1"}, Kind.VERSION),
    )
    assert source.records == {"users": {"u1"}, "items": {"s1", "p1"}}


class Reader:
    """A stub of Personalize's tables."""

    def rows(self, table: str) -> list[dict[str, Any]]:
        tables: dict[str, list[dict[str, Any]]] = {
            "imported/interactions": [
                {"USER_ID": "u1", "ITEM_ID": "s1", "EVENT_TYPE": "play", "TIMESTAMP": "1"}
            ],
            "events": [{"user_id": None, "item_id": "s2", "event_type": "play", "sent_at": 2_999}],
            "imported/users": [{"USER_ID": "u1"}],
            "imported/items": [{"ITEM_ID": "s1"}],
        }
        return tables[table]

    def ignored(self) -> list[Ignored]:
        return [Ignored("e4", "identical", "e9"), Ignored("e5", "no reason")]

    def records(self, dataset: str) -> list[tuple[str, str | None]]:
        return [(f"{dataset}-put", None)]


def test_imports_and_stream_are_read() -> None:
    """An event that was ignored as identical to another counts as stored."""
    found = read_stored(Reader(), expected(play(4), play(5)))  # type: ignore[arg-type]
    assert found.imported == Counter([identity_of(1)])
    assert found.streamed == Counter([(None, "s2", "play", 2), identity_of(4)])
    assert found.users == {"u1", "users-put"}
    assert found.items == {"s1", "items-put"}


def test_rows_that_cannot_be_imported_are_not_lost() -> None:
    """As many as the bootstrap has rejected; one more is lost."""
    source = expected(play(1), play(2, None), play(3, None))
    source.records["users"].add("u1")
    state = stored([identity_of(1)], [])
    difference = compare(source, state)
    lost = {
        rejected: document(source, state, difference, Counter({"no_user": rejected}), {}, {})[
            "lost"
        ]
        for rejected in (1, 2)
    }
    assert lost == {1: 2, 2: 1}, "the missing user is lost as well"


class Source:
    description = "five plays, one of them repeated"
    dimension_count, stream_count = 1, 6

    def dimensions(self) -> Any:
        return iter([Entry("users", {"user_id": "u1"}, Kind.VERSION)])

    def stream(self) -> Any:
        plays = [play(1), play(2), play(3), play(1, kind=Kind.DUPLICATE), play(4)]
        return iter([*plays, play(4, kind=Kind.DUPLICATE)])


def test_parts_of_a_source_do_not_repeat_events() -> None:
    """Users and items with the first part; a duplicate within a part is kept."""
    first, second = part(Source(), 0, 3), part(Source(), 3, 6)
    assert (len(list(first.dimensions())), len(list(second.dimensions()))) == (1, 0)
    ids = [[(e.record or {})["event_id"] for e in part.stream()] for part in (first, second)]
    assert ids == [["e1", "e2", "e3"], ["e4", "e4"]]
