"""The stored events, users and items, and the group commit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulators.personalize.commits import MAX_CALLS_PER_COMMIT, GroupCommit
from emulators.personalize.rules import Event, Record
from emulators.personalize.store import (
    Call,
    EventsCall,
    RecordsCall,
    Store,
    StoreReader,
    Totals,
    Written,
)

NOW = 1_763_000_000_000


def event(event_id: str, identity: str | None = None, **members: Any) -> Event:
    base = Event(
        event_id=event_id,
        user_id="u1",
        session_id="s1",
        item_id="i1",
        event_type="play",
        event_value=None,
        sent_at=NOW - 5,
        properties=None,
        recommendation_id=None,
        impression=None,
        attribution_source=None,
        identity=(identity or event_id).encode(),
    )
    return replace(base, **members)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "personalize.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path)
    yield opened
    opened.close()


@pytest.fixture
def reader(store: Store, path: Path) -> Iterator[StoreReader]:
    opened = StoreReader(path)
    yield opened
    opened.close()


def rows(reader: StoreReader, name: str, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    return [json.loads(line) for line in reader.page(name, after, limit).splitlines()]


def test_an_event_is_stored_as_it_was_sent(store: Store, reader: StoreReader) -> None:
    """Every member, and the time of acceptance."""
    store.write([EventsCall((event("e1", impression=("i1", "i2"), event_value=0.5),))], NOW)
    assert rows(reader, "events") == [
        {
            "rowid": 1,
            "event_id": "e1",
            "user_id": "u1",
            "session_id": "s1",
            "item_id": "i1",
            "event_type": "play",
            "event_value": 0.5,
            "sent_at": NOW - 5,
            "properties": None,
            "recommendation_id": None,
            "impression": ["i1", "i2"],
            "attribution_source": None,
            "accepted_at": NOW,
            "duplicates": 0,
        }
    ]


def test_a_second_event_with_the_same_id_is_only_counted(store: Store, reader: StoreReader) -> None:
    """The first one is kept, whatever the second one contains; within a call and across calls."""
    changed = event("e1", "other content", item_id="i2")
    (first,) = store.write([EventsCall((event("e1"), changed))], NOW)
    (second,) = store.write([EventsCall((event("e1"), event("e2")))], NOW)
    assert ([e.event_id for e in first.events], first.duplicates) == (["e1"], 1)
    assert ([e.event_id for e in second.events], second.duplicates) == (["e2"], 1)
    stored = {
        row["event_id"]: (row["item_id"], row["duplicates"]) for row in rows(reader, "events")
    }
    assert stored == {"e1": ("i1", 2), "e2": ("i1", 0)}


def test_the_newest_events_are_stored(path: Path) -> None:
    """And as many ignored ones; the counts are of what is stored, also after a restart."""
    store, totals = Store(path, max_events=10), Totals()
    for number in range(25):
        call = EventsCall((event(f"e{number}"), event(f"again{number}", f"e{number}")))
        repetition = EventsCall((event(f"e{max(0, number - 1)}"),))
        for written in store.write([call, repetition], NOW):
            totals.add(written)
    store.close()
    reader = StoreReader(path)
    newest = [f"e{number}" for number in range(15, 25)]
    assert [row["event_id"] for row in rows(reader, "events")] == newest
    assert [row["same_as"] for row in rows(reader, "ignored")] == newest
    assert totals == reader.totals() == Totals(events=10, duplicates=9, identical=10)
    reader.close()


def test_an_identical_event_is_recorded_as_ignored(store: Store, reader: StoreReader) -> None:
    """With the id of the stored one."""
    (written,) = store.write([EventsCall((event("e1", "same"), event("e2", "same")))], NOW)
    assert (len(written.events), written.identical, written.duplicates) == (1, 1, 0)
    (row,) = rows(reader, "ignored")
    assert (row["event_id"], row["reason"], row["same_as"]) == ("e2", "identical", "e1")


def test_events_of_a_null_session_are_recorded_as_ignored(
    store: Store, reader: StoreReader
) -> None:
    """They are not in the dataset, and a later event with the same id is stored."""
    (ignored,) = store.write([EventsCall((event("e1"),), null_session=True)], NOW)
    (kept,) = store.write([EventsCall((event("e1"),))], NOW)
    assert (ignored.null_session, ignored.events) == (1, ())
    assert len(kept.events) == 1
    assert [row["reason"] for row in rows(reader, "ignored")] == ["null_session"]


def test_a_later_record_replaces_the_earlier_one(store: Store, reader: StoreReader) -> None:
    """With all its properties."""
    first = RecordsCall("users", (Record("u1", '{"a":1}'), Record("u2", '{"a":2}')))
    second = RecordsCall("users", (Record("u1", None),))
    written = store.write([first, second], NOW)
    assert [call.new_users for call in written] == [2, 0]
    assert [(r["user_id"], r["properties"], r["versions"]) for r in rows(reader, "users")] == [
        ("u1", None, 2),
        ("u2", '{"a":2}', 1),
    ]


def test_totals_are_the_sum_of_the_calls(store: Store, reader: StoreReader) -> None:
    """They equal the counts of the tables."""
    totals = reader.totals()
    calls: list[Call] = [
        EventsCall((event("e1", "x"), event("e1", "x"), event("e2", "x"), event("e3"))),
        EventsCall((event("e4"),), null_session=True),
        RecordsCall("items", (Record("i1", None), Record("i1", None))),
        RecordsCall("users", (Record("u1", None),)),
    ]
    for written in store.write(calls, NOW):
        totals.add(written)
    assert totals == reader.totals()
    assert (totals.events, totals.duplicates, totals.identical, totals.null_session) == (2, 1, 1, 1)
    assert (totals.users, totals.items) == (1, 1)


def test_pages_are_complete(store: Store, reader: StoreReader) -> None:
    """`after` is the last rowid of the page; no row is duplicated or missing."""
    store.write([EventsCall(tuple(event(f"e{n}") for n in range(7)))], NOW)
    seen, after = [], 0
    while page := rows(reader, "events", after, 3):
        seen += [row["event_id"] for row in page]
        after = page[-1]["rowid"]
    assert seen == [f"e{n}" for n in range(7)]


def test_a_failed_transaction_stores_no_call(store: Store, reader: StoreReader) -> None:
    """The store can be used further."""
    broken = EventsCall((event("e2", item_id=None),))
    with pytest.raises(sqlite3.IntegrityError):
        store.write([EventsCall((event("e1"),)), broken], NOW)
    assert rows(reader, "events") == []
    assert len(store.write([EventsCall((event("e1"),))], NOW)[0].events) == 1


def call(number: int) -> Call:
    return EventsCall((event(f"e{number}"),))


def test_calls_share_transactions_and_keep_their_order() -> None:
    """Hundreds of concurrent calls need a few writes; results are applied in order."""
    batches: list[int] = []
    applied: list[str] = []

    def write(calls: Sequence[Call]) -> list[Written]:
        batches.append(len(calls))
        return [Written(0, c.events) for c in calls if isinstance(c, EventsCall)]

    async def scenario() -> list[Written]:
        commits = GroupCommit(write, lambda w: applied.extend(e.event_id for e in w.events))
        results = await asyncio.gather(*(commits.submit(call(n)) for n in range(600)))
        await commits.close()
        return list(results)

    results = asyncio.run(scenario())
    expected = [f"e{n}" for n in range(600)]
    assert [written.events[0].event_id for written in results] == expected
    assert applied == expected
    assert len(batches) <= 4
    assert max(batches) == MAX_CALLS_PER_COMMIT


def test_a_failed_write_fails_its_calls_only() -> None:
    """The next ones are written, because a full disk may have space again."""
    attempts = iter([OSError("disk full"), None])

    def write(calls: Sequence[Call]) -> list[Written]:
        error = next(attempts)
        if error is not None:
            raise error
        return [Written(0) for _ in calls]

    async def scenario() -> None:
        commits = GroupCommit(write, lambda written: None)
        with pytest.raises(OSError, match="disk full"):
            await commits.submit(call(1))
        assert await commits.submit(call(2)) == Written(0)
        await commits.close()

    asyncio.run(scenario())


def test_a_failed_update_does_not_stop_the_writer() -> None:
    """Only its call fails."""

    def apply(written: Written) -> None:
        if written.accepted_at == 0:
            raise RuntimeError("model")

    async def scenario() -> None:
        times = iter(range(2))
        commits = GroupCommit(lambda calls: [Written(next(times)) for _ in calls], apply)
        with pytest.raises(RuntimeError, match="model"):
            await asyncio.wait_for(commits.submit(call(1)), 5)
        assert await asyncio.wait_for(commits.submit(call(2)), 5) == Written(1)
        await commits.close()

    asyncio.run(scenario())


def test_closing_writes_pending_calls() -> None:
    """No accepted call is lost at the end."""
    written: list[int] = []

    def write(calls: Sequence[Call]) -> list[Written]:
        written.append(len(calls))
        return [Written(0) for _ in calls]

    async def scenario() -> None:
        commits = GroupCommit(write, lambda _: None)
        waiting = [asyncio.create_task(commits.submit(call(n))) for n in range(5)]
        await asyncio.sleep(0)
        await commits.close()
        await asyncio.gather(*waiting)

    asyncio.run(scenario())
    assert sum(written) == 5
