"""The accepted events, users and items in SQLite, and events that were accepted but ignored.

Synchronous: `Store` belongs to one writer thread, `StoreReader` to one reader thread. A batch of
calls is one transaction, in WAL mode with `synchronous=FULL`, so results of `write` survive a kill
and a power failure. The tables' unique indexes detect duplicate events within the transaction, so
the detection survives restarts and takes no memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emulators.personalize.rules import Event, Record, RecordKind
from emulators.personalize.sqlite import connect, transaction

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    rowid INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    identity BLOB NOT NULL UNIQUE,
    user_id TEXT,
    session_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    event_value REAL,
    sent_at INTEGER NOT NULL,
    properties TEXT,
    recommendation_id TEXT,
    impression TEXT,
    attribution_source TEXT,
    accepted_at INTEGER NOT NULL,
    duplicates INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS ignored (
    rowid INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    same_as TEXT,
    user_id TEXT,
    session_id TEXT NOT NULL,
    received_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS users (
    rowid INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    properties TEXT,
    accepted_at INTEGER NOT NULL,
    versions INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS items (
    rowid INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    properties TEXT,
    accepted_at INTEGER NOT NULL,
    versions INTEGER NOT NULL DEFAULT 1
);
"""
MAX_EVENTS = 5_000_000
"""Events of a dataset group that are stored, and as many ignored ones: 1.5 GB."""

_INSERT_EVENT = """
INSERT INTO events (event_id, identity, user_id, session_id, item_id, event_type, event_value,
                    sent_at, properties, recommendation_id, impression, attribution_source,
                    accepted_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_COUNT_DUPLICATE = "UPDATE events SET duplicates = duplicates + 1 WHERE event_id = ?"
_SAME_EVENT = "SELECT event_id FROM events WHERE identity = ?"
_INSERT_IGNORED = """
INSERT INTO ignored (event_id, reason, same_as, user_id, session_id, received_at)
VALUES (?, ?, ?, ?, ?, ?)
"""
# An update keeps the rowid: the catalogue is in the order of the first appearance.
_PUT_RECORD = """
INSERT INTO {table} (id, properties, accepted_at) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET properties = excluded.properties, accepted_at = excluded.accepted_at,
                               versions = versions + 1
RETURNING versions
"""
_EVENT_COLUMNS = (
    "rowid, event_id, user_id, session_id, item_id, event_type, event_value, sent_at, properties, "
    "recommendation_id, impression, attribution_source, accepted_at, duplicates"
)
_PAGES = {
    "events": f"SELECT {_EVENT_COLUMNS} FROM events",
    "ignored": "SELECT rowid, event_id, reason, same_as, user_id, session_id, received_at "
    "FROM ignored",
    "users": "SELECT rowid, id AS user_id, properties, accepted_at, versions FROM users",
    "items": "SELECT rowid, id AS item_id, properties, accepted_at, versions FROM items",
}


@dataclass(frozen=True, slots=True)
class EventsCall:
    """A PutEvents call to store; events of the session `null` are only recorded as ignored."""

    events: tuple[Event, ...]
    null_session: bool = False


@dataclass(frozen=True, slots=True)
class RecordsCall:
    """A PutUsers or PutItems call to store."""

    kind: RecordKind
    records: tuple[Record, ...]


Call = EventsCall | RecordsCall


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a call: its new events and its items, for the model, and counts."""

    accepted_at: int
    events: tuple[Event, ...] = ()
    items: tuple[str, ...] = ()
    duplicates: int = 0
    identical: int = 0
    null_session: int = 0
    new_users: int = 0
    new_items: int = 0
    removed: Totals | None = None
    """The oldest rows, removed for the new ones of its transaction."""


@dataclass(slots=True)
class Totals:
    """Counts of the stored data."""

    events: int = 0
    duplicates: int = 0
    identical: int = 0
    null_session: int = 0
    users: int = 0
    items: int = 0

    def add(self, written: Written) -> None:
        """Add the counts of a call."""
        if written.removed is not None:
            self.subtract(written.removed)
        self.events += len(written.events)
        self.duplicates += written.duplicates
        self.identical += written.identical
        self.null_session += written.null_session
        self.users += written.new_users
        self.items += written.new_items

    def subtract(self, removed: Totals) -> None:
        """Subtract the counts of removed rows."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) - getattr(removed, name))


@dataclass(frozen=True, slots=True)
class StoredInteraction:
    """A stored event for the model. Times in milliseconds since 1970."""

    listener: str
    item_id: str
    event_type: str
    event_value: float | None
    sent_at: int
    accepted_at: int
    event_id: str


class Store:
    """Writes calls. Raises sqlite3.Error when the disk fails; nothing is stored then.

    Of more than ``max_events`` the oldest are removed; a repetition of one is a new event then.
    """

    def __init__(self, path: Path, max_events: int = MAX_EVENTS) -> None:
        self._max_events = max_events
        self._connection = connect(path)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA cache_size=-65536")  # 64 MiB: ids arrive in random order
        self._connection.executescript(_SCHEMA)

    def write(self, calls: Sequence[Call], now: int) -> list[Written]:
        """Stores the calls in one transaction, durable on return; one `Written` per call."""
        with transaction(self._connection):
            first, *others = (
                self._write_events(call, now)
                if isinstance(call, EventsCall)
                else self._write_records(call, now)
                for call in calls
            )
            return [replace(first, removed=self._remove_oldest()), *others]

    def close(self) -> None:
        """Checkpoint the write-ahead log and close the file."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _remove_oldest(self) -> Totals | None:
        conditions = {table: self._oldest(table) for table in ("events", "ignored")}
        if not any(conditions.values()):
            return None
        removed = _count(self._connection, **conditions)
        for table, condition in conditions.items():
            self._connection.execute(f"DELETE FROM {table} WHERE {condition or 'FALSE'}")
        return removed

    def _oldest(self, table: str) -> str:
        """A condition for the rows that are too many; empty if there are none."""
        first, last = self._connection.execute(
            f"SELECT (SELECT min(rowid) FROM {table}), (SELECT max(rowid) FROM {table})"
        ).fetchone()
        if first is None or last - first < self._max_events:
            return ""
        return f"rowid <= {last - self._max_events}"

    def _write_events(self, call: EventsCall, now: int) -> Written:
        execute = self._connection.execute
        if call.null_session:
            for event in call.events:
                row = (event.event_id, "null_session", None, event.user_id, event.session_id, now)
                execute(_INSERT_IGNORED, row)
            return Written(now, null_session=len(call.events))
        new: list[Event] = []
        duplicates = identical = 0
        for event in call.events:
            if execute(_INSERT_EVENT, _event_row(event, now)).rowcount == 1:
                new.append(event)
            elif execute(_COUNT_DUPLICATE, (event.event_id,)).rowcount == 1:
                duplicates += 1
            else:
                (same_as,) = execute(_SAME_EVENT, (event.identity,)).fetchone()
                row = (event.event_id, "identical", same_as, event.user_id, event.session_id, now)
                execute(_INSERT_IGNORED, row)
                identical += 1
        return Written(now, tuple(new), duplicates=duplicates, identical=identical)

    def _write_records(self, call: RecordsCall, now: int) -> Written:
        statement = _PUT_RECORD.format(table=call.kind)
        new = 0
        for record in call.records:
            row = (record.id, record.properties, now)
            ((versions,),) = self._connection.execute(statement, row).fetchall()
            new += versions == 1
        if call.kind == "users":
            return Written(now, new_users=new)
        return Written(now, items=tuple(record.id for record in call.records), new_items=new)


class StoreReader:
    """Reads the stored data without waiting for the writer."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)
        self._connection.execute("PRAGMA query_only=1")

    def totals(self) -> Totals:
        """Counts of the stored data; reads each table once."""
        execute = self._connection.execute
        totals = _count(self._connection, "TRUE", "TRUE")
        (totals.users,) = execute("SELECT count(*) FROM users").fetchone()
        (totals.items,) = execute("SELECT count(*) FROM items").fetchone()
        return totals

    def interactions(self, after: int = 0) -> Iterator[StoredInteraction]:
        """The events after rowid `after`, in the order of their acceptance."""
        rows = self._connection.execute(
            "SELECT coalesce(user_id, session_id), item_id, event_type, event_value, sent_at, "
            "accepted_at, event_id FROM events WHERE rowid > ? ORDER BY rowid",
            (after,),
        )
        for row in rows:
            yield StoredInteraction(*row)

    def item_ids(self) -> Iterator[str]:
        """The items that were put, in the order of their first appearance."""
        for (item_id,) in self._connection.execute("SELECT id FROM items ORDER BY rowid"):
            yield item_id

    def properties(self, kind: RecordKind, ids: Sequence[str]) -> dict[str, str | None]:
        """The properties (JSON) of the users or items with these ids, by id."""
        marks = ",".join("?" * len(ids))
        statement = f"SELECT id, properties FROM {kind} WHERE id IN ({marks})"
        return dict(self._connection.execute(statement, tuple(ids)).fetchall())

    def latest_interactions(self, user_id: str, limit: int) -> list[tuple[str, str, int]]:
        """A user's events (item, event type, seconds), newest first.

        Scans the table unless :func:`index_users` was called.
        """
        return self._connection.execute(
            "SELECT item_id, event_type, sent_at / 1000 FROM events WHERE user_id = ? "
            "ORDER BY sent_at DESC LIMIT ?",
            (user_id, limit),
        ).fetchall()

    def page(self, name: str, after: int, limit: int) -> bytes:
        """NDJSON: up to `limit` rows of the table `name` after rowid `after`."""
        statement = f"{_PAGES[name]} WHERE rowid > ? ORDER BY rowid LIMIT ?"
        cursor = self._connection.execute(statement, (after, limit))
        names = [column[0] for column in cursor.description]
        lines = []
        for row in cursor:
            document: dict[str, Any] = dict(zip(names, row, strict=True))
            if document.get("impression") is not None:
                document["impression"] = json.loads(document["impression"])
            lines.append(json.dumps(document, ensure_ascii=False))
        return "".join(f"{line}\n" for line in lines).encode()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def index_users(path: Path) -> None:
    """Index the events by user, for filters on interactions. Calls that write wait meanwhile."""
    connection = connect(path)
    connection.execute("CREATE INDEX IF NOT EXISTS events_by_user ON events (user_id, sent_at)")
    connection.close()


def erase_users(path: Path, users: Iterable[str]) -> Totals:
    """Remove users and what they did, in one transaction; returns the counts of the removed rows.

    Their bytes are overwritten, not only freed. Calls that write wait meanwhile.
    """
    connection = connect(path, timeout=60.0)
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("CREATE TEMP TABLE erased (id TEXT PRIMARY KEY)")
    connection.executemany("INSERT INTO erased VALUES (?)", ((user,) for user in users))
    theirs = "user_id IN (SELECT id FROM erased)"
    execute = connection.execute
    with transaction(connection):
        removed = _count(connection, theirs, theirs)
        execute(f"DELETE FROM events WHERE {theirs}")
        execute(f"DELETE FROM ignored WHERE {theirs}")
        users_removed = execute("DELETE FROM users WHERE id IN (SELECT id FROM erased)")
        removed.users = users_removed.rowcount
    execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return removed


def _count(connection: sqlite3.Connection, events: str, ignored: str) -> Totals:
    """The counts of events and ignored events under conditions; an empty one has no rows."""
    stored, duplicates = connection.execute(
        f"SELECT count(*), total(duplicates) FROM events WHERE {events or 'FALSE'}"
    ).fetchone()
    reasons = dict(
        connection.execute(
            f"SELECT reason, count(*) FROM ignored WHERE {ignored or 'FALSE'} GROUP BY reason"
        ).fetchall()
    )
    return Totals(
        events=stored,
        duplicates=int(duplicates),
        identical=reasons.get("identical", 0),
        null_session=reasons.get("null_session", 0),
    )


def clear(path: Path, table: str) -> None:
    """Removes everything from `events`, `users` or `items`."""
    connection = connect(path)
    connection.execute(f"DELETE FROM {table}")
    connection.close()


def _event_row(event: Event, now: int) -> tuple[object, ...]:
    return (
        event.event_id,
        event.identity,
        event.user_id,
        event.session_id,
        event.item_id,
        event.event_type,
        event.event_value,
        event.sent_at,
        event.properties,
        event.recommendation_id,
        None if event.impression is None else json.dumps(event.impression),
        event.attribution_source,
        now,
    )
