"""The ledger: every record that a run sent, and the broker's answers.

One append-only SQLite file per run (triggers reject changes). ``sent`` is written before a record
is sent, ``reported`` when the broker has answered. A ``sent`` row without a ``reported`` row is
*unknown*: the process ended in between, and the record may or may not be on the topic.

Tables:
  run(name, value JSON)   run, started_ms, finished_ms, source, contracts, cluster_id, start, ...
  sent(seq, topic, key, event_id, kind, reason, entity, updated_at, deleted, body)
  reported(seq, partition, offset, timestamp, error)   error is null when acknowledged
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from schemas.errors import TunemeshError
from schemas.invalid import Reason
from verification.entries import Kind
from verification.publications import Publication

MAX_BYTES = 5 * 2**30
"""Of the ledgers of former runs; a million records have 215 MB."""

_FORMAT = 1
_TABLES = """
CREATE TABLE run (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sent (
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, key BLOB, event_id TEXT, kind TEXT NOT NULL,
  reason TEXT, entity TEXT, updated_at INTEGER, deleted INTEGER NOT NULL, body BLOB);
CREATE TABLE reported (
  seq INTEGER PRIMARY KEY, partition INTEGER, offset INTEGER, timestamp INTEGER, error TEXT);
CREATE TRIGGER sent_append_only BEFORE UPDATE ON sent
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER reported_append_only BEFORE UPDATE ON reported
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER sent_keeps_all BEFORE DELETE ON sent
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER reported_keeps_all BEFORE DELETE ON reported
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class LedgerError(TunemeshError):
    """A ledger cannot be used."""


class Status(StrEnum):
    """The status of a sent record."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """The broker's answer to a sent record; ``error`` is None if it is on the topic."""

    seq: int
    partition: int | None
    offset: int | None
    timestamp: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A sent record with its status; the position is None unless acknowledged."""

    seq: int
    topic: str
    key: bytes | None
    event_id: str | None
    kind: Kind
    reason: Reason | None
    entity: str | None
    updated_at: int | None
    deleted: bool
    body: bytes | None
    status: Status
    partition: int | None = None
    offset: int | None = None
    timestamp: int | None = None


class Ledger:
    """The ledger of a run. Not thread-safe."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path, about: Mapping[str, Any]) -> Ledger:
        """Create the file; raises LedgerError if it exists."""
        require_new(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # Rows survive a crash of the process; only a power failure can lose the last ones.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_TABLES)
        ledger = cls(path, connection)
        ledger.note({"format": _FORMAT, **about})
        return ledger

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Open the file for reading; raises LedgerError if it is not a ledger of this format."""
        if not path.exists():
            raise LedgerError(f"{path} does not exist")
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None
        )
        ledger = cls(path, connection)
        try:
            version = ledger.about().get("format")
        except sqlite3.Error as error:
            connection.close()
            raise LedgerError(f"{path}: not a ledger ({error})") from None
        if version != _FORMAT:
            connection.close()
            raise LedgerError(f"{path}: ledger format {version!r}, this version reads {_FORMAT}")
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def note(self, about: Mapping[str, Any]) -> None:
        """Write facts about the run, such as ``finished_ms``."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO run VALUES (?, ?)",
            [(name, json.dumps(value)) for name, value in about.items()],
        )

    def about(self) -> dict[str, Any]:
        """Return the facts about the run."""
        return {
            name: json.loads(value)
            for name, value in self._connection.execute("SELECT name, value FROM run")
        }

    def record_sent(self, first_seq: int, publications: Iterable[Publication]) -> None:
        """Append records before they are sent, numbered from ``first_seq``, in one transaction."""
        self._append(
            "INSERT INTO sent VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                (
                    seq,
                    p.topic,
                    p.key,
                    p.event_id,
                    p.kind.value,
                    None if p.reason is None else p.reason.value,
                    p.entity,
                    p.updated_at,
                    p.deleted,
                    p.body,
                )
                for seq, p in enumerate(publications, first_seq)
            ),
        )

    def record_reports(self, reports: Iterable[DeliveryReport]) -> None:
        """Append the broker's answers in one transaction."""
        self._append(
            "INSERT INTO reported VALUES (?,?,?,?,?)",
            ((r.seq, r.partition, r.offset, r.timestamp, r.error) for r in reports),
        )

    def _append(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._connection.execute("BEGIN")
        try:
            self._connection.executemany(statement, rows)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def rows(self, *kinds: Kind) -> Iterator[LedgerRow]:
        """Yield sent records in the order of sending, all or those of some kinds."""
        chosen = kinds or tuple(Kind)
        marks = ",".join("?" * len(chosen))
        cursor = self._connection.execute(
            "SELECT s.seq, topic, key, event_id, kind, reason, entity, updated_at, deleted, body,"
            " r.seq, partition, offset, timestamp, error"
            " FROM sent s LEFT JOIN reported r ON r.seq = s.seq"
            f" WHERE kind IN ({marks}) ORDER BY s.seq",
            [kind.value for kind in chosen],
        )
        for seq, topic, key, event_id, kind, reason, *rest in cursor:
            entity, updated_at, deleted, body, reported, partition, offset, timestamp, error = rest
            status = Status.UNKNOWN if reported is None else Status.ACKNOWLEDGED
            yield LedgerRow(
                seq,
                topic,
                key,
                event_id,
                _KINDS[kind],
                None if reason is None else Reason(reason),
                entity,
                updated_at,
                bool(deleted),
                body,
                status if error is None else Status.FAILED,
                partition,
                offset,
                timestamp,
            )

    def event_ids(self) -> set[str]:
        """Return all event ids of the run."""
        return {
            event_id
            for (event_id,) in self._connection.execute(
                "SELECT DISTINCT event_id FROM sent WHERE event_id IS NOT NULL"
            )
        }

    def topics(self) -> set[str]:
        """Return the topics of the run's records."""
        return {topic for (topic,) in self._connection.execute("SELECT DISTINCT topic FROM sent")}

    def ends(self) -> dict[str, dict[int, int]]:
        """Return the offset after the run's last acknowledged record, by topic and partition."""
        ends: dict[str, dict[int, int]] = {}
        for topic, partition, last in self._connection.execute(
            "SELECT topic, partition, MAX(offset) FROM sent s JOIN reported r ON r.seq = s.seq"
            " WHERE error IS NULL GROUP BY 1, 2"
        ):
            ends.setdefault(topic, {})[partition] = last + 1
        return ends


_KINDS = {kind.value: kind for kind in Kind}


def require_new(path: Path) -> None:
    """Raise LedgerError if there is such a file."""
    if path.exists():
        raise LedgerError(f"{path} exists already. Choose another name: --run")


def ledger_path(home: Path, run: str) -> Path:
    """Return the path of a run's ledger."""
    return home / "ledger" / f"{run}.sqlite"


def prune(home: Path, max_bytes: int = MAX_BYTES) -> None:
    """Remove the ledgers that were written longest ago, beyond so many bytes of all together.

    The records of a run whose ledger is removed are those of an unknown producer to later runs.
    """
    ledgers = []
    for path in (home / "ledger").glob("*.sqlite"):
        stats = [file.stat() for file in (path, _beside(path, "wal")) if file.exists()]
        # A reader makes an empty one beside it.
        written = max((stat.st_mtime for stat in stats if stat.st_size), default=0.0)
        ledgers.append((written, sum(stat.st_size for stat in stats), path))
    total = 0
    for _, size, path in sorted(ledgers, reverse=True):
        total += size
        if total > max_bytes:
            for file in (path, _beside(path, "wal"), _beside(path, "shm")):
                file.unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    """A file that SQLite has beside a database."""
    return path.with_name(f"{path.name}-{suffix}")


def runs(home: Path) -> list[str]:
    """Return the names of the runs with a ledger, the oldest first."""
    started: list[tuple[int, str]] = []
    for path in (home / "ledger").glob("*.sqlite"):
        try:
            with Ledger.open(path) as ledger:
                started.append((int(ledger.about().get("started_ms", 0)), path.stem))
        except LedgerError:
            continue
    return [run for _, run in sorted(started)]
