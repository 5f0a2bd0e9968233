"""What was imported in bulk: SQLite, one file for each dataset group.

A job loads its rows into a table of its own, in batches and in bounded memory, and `publish` makes
them the dataset's in one transaction. So a job that was killed has changed nothing, and one that
was published is not loaded again. Columns are those of the schema, in its order.

`Bulk` belongs to one thread at a time (the one that does the imports and trainings), `BulkReader`
to another; readers never wait.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from emulators.personalize.control.schemas import KINDS, DatasetSchema, Field, Kind

Mode = Literal["FULL", "INCREMENTAL"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS datasets (kind TEXT PRIMARY KEY, tables TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY,
    arn TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    rows INTEGER
);
"""
_BATCHES_A_TRANSACTION = 10
_ROWS_A_TABLE = 2**36
_TYPES: Mapping[str, str] = {
    "int": "INTEGER",
    "long": "INTEGER",
    "float": "REAL",
    "double": "REAL",
}
_IDS: Mapping[Kind, str] = {"USERS": "USER_ID", "ITEMS": "ITEM_ID"}


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a dataset: its name and its columns."""

    name: str
    columns: tuple[str, ...]
    rows: int

    @property
    def number(self) -> int:
        """The number of the job that loaded it."""
        return int(self.name.rpartition("_")[2])

    def column(self, name: str) -> str:
        """The column in SQL, or NULL where the table has none of this name."""
        return f'"{name}"' if name in self.columns else "NULL"


class BulkReader:
    """Reads what is published."""

    def __init__(self, path: Path) -> None:
        self._connection = _connect(path)

    def tables(self, kind: Kind) -> tuple[Table, ...]:
        """The tables of a dataset: none before its first import."""
        row = self._connection.execute(
            "SELECT tables FROM datasets WHERE kind = ?", (kind,)
        ).fetchone()
        entries = json.loads(row[0]) if row else []
        return tuple(
            Table(entry["name"], tuple(entry["columns"]), entry["rows"]) for entry in entries
        )

    def counts(self) -> dict[str, int]:
        """How many rows each dataset has: `users`, `items`, `interactions`."""
        return {
            kind.lower(): sum(table.rows for table in self.tables(kind)) for kind in KINDS.values()
        }

    def ids(self, kind: Kind) -> Iterator[str]:
        """The ids of a dataset of users or items."""
        for table in self.tables(kind):
            statement = f'SELECT "{_IDS[kind]}" FROM {table.name}'
            for (found,) in self._connection.execute(statement):
                yield found

    def records(self, kind: Kind, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those of the records with these ids that there are, by id; column to value."""
        found: dict[str, dict[str, Any]] = {}
        marks = ",".join("?" * len(ids))
        for table in self.tables(kind):
            statement = f'SELECT * FROM {table.name} WHERE "{_IDS[kind]}" IN ({marks})'
            for row in self._connection.execute(statement, tuple(ids)):
                record = dict(zip(table.columns, row, strict=True))
                found[record[_IDS[kind]]] = record
        return found

    def latest_interactions(self, user_id: str, most: int) -> list[tuple[str, str, int]]:
        """A user's interactions (item, event type, seconds), newest first. Scans without
        `index_users`."""
        found: list[tuple[str, str, int]] = []
        for table in self.tables("INTERACTIONS"):
            found += self._connection.execute(
                f"SELECT ITEM_ID, coalesce({table.column('EVENT_TYPE')}, ''), TIMESTAMP "
                f"FROM {table.name} WHERE USER_ID = ? ORDER BY TIMESTAMP DESC LIMIT ?",
                (user_id, most),
            ).fetchall()
        return sorted(found, key=lambda row: -row[2])[:most]

    def page(self, kind: Kind, after: int, limit: int) -> bytes:
        """NDJSON: up to `limit` rows of a dataset beyond `after`, in the order of the import.

        A row's `rowid` is for the next page; an import changes it.
        """
        lines: list[str] = []
        number, last = divmod(after, _ROWS_A_TABLE)
        for table in self.tables(kind):
            if table.number < number or len(lines) == limit:
                continue
            cursor = self._connection.execute(
                f"SELECT rowid, * FROM {table.name} WHERE rowid > ? ORDER BY rowid LIMIT ?",
                (last if table.number == number else 0, limit - len(lines)),
            )
            for rowid, *row in cursor:
                place = {"rowid": table.number * _ROWS_A_TABLE + rowid}
                document = {**place, **dict(zip(table.columns, row, strict=True))}
                lines.append(json.dumps(document, ensure_ascii=False))
        return "".join(f"{line}\n" for line in lines).encode()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class Bulk(BulkReader):
    """The writer's side, which also reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA cache_size=-65536")
        self._connection.executescript(_SCHEMA)

    def published(self, arn: str) -> int | None:
        """The rows of a job that was published before; None for any other."""
        row = self._connection.execute("SELECT rows FROM jobs WHERE arn = ?", (arn,)).fetchone()
        return row[0] if row else None

    def load(self, arn: str, schema: DatasetSchema, batches: Iterator[list[list[str]]]) -> int:
        """Loads a job's rows into a table of its own, which begins empty; returns how many.

        The table is not part of the dataset before `publish`.
        """
        connection = self._connection
        connection.execute(
            "INSERT INTO jobs (arn, kind) VALUES (?, ?) ON CONFLICT DO NOTHING", (arn, schema.kind)
        )
        table = self._table(arn)
        connection.execute(f"DROP TABLE IF EXISTS {table}")
        columns = ", ".join(_column(field) for field in schema.fields)
        # Rebuilt from scratch after a crash, so nothing has to reach the disk before `publish`.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"CREATE TABLE {table} ({columns})")
        values = ", ".join(_value(field) for field in schema.fields)
        statement = f"INSERT INTO {table} VALUES ({values})"
        rows = 0
        for number, batch in enumerate(batches):
            if number % _BATCHES_A_TRANSACTION == 0:
                self._commit()
                connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, batch)
            rows += len(batch)
        self._commit()
        return rows

    def abandon(self, arn: str) -> None:
        """Drops what a job has loaded; its number stays."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection.execute(f"DROP TABLE IF EXISTS {self._table(arn)}")

    def publish(self, arn: str, schema: DatasetSchema, mode: Mode, rows: int) -> None:
        """Makes the loaded rows of a job the dataset's, in one transaction, durable on return.

        FULL: instead of all that was imported before. INCREMENTAL: users and items replace those
        with their ids, interactions are added.
        """
        connection = self._connection
        kind, loaded = schema.kind, self._table(arn)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            before = self.tables(kind)
            new = Table(loaded, schema.columns, 0)
            if kind in _IDS:
                self._latest_of_each(loaded, _IDS[kind])
                connection.execute(f'CREATE UNIQUE INDEX {loaded}_id ON {loaded} ("{_IDS[kind]}")')
                if mode == "INCREMENTAL":
                    self._add_others(before, new)
            (there,) = connection.execute(f"SELECT count(*) FROM {loaded}").fetchone()
            tables: tuple[Table, ...] = (replace(new, rows=there),)
            if mode == "INCREMENTAL" and kind not in _IDS:
                tables = (*before, *tables)
            text = json.dumps([asdict(table) for table in tables])
            connection.execute("REPLACE INTO datasets (kind, tables) VALUES (?, ?)", (kind, text))
            for table in before:
                if table not in tables:
                    connection.execute(f"DROP TABLE {table.name}")
            connection.execute("UPDATE jobs SET rows = ? WHERE arn = ?", (rows, arn))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def index_users(self) -> None:
        """Makes the interactions of one user quick to find; for filters on interactions."""
        for table in self.tables("INTERACTIONS"):
            self._connection.execute(
                f"CREATE INDEX IF NOT EXISTS {table.name}_user ON {table.name} (USER_ID, TIMESTAMP)"
            )

    def clear(self, kind: Kind) -> None:
        """Drops what was imported into a dataset, and forgets the jobs that did it."""
        for table in self.tables(kind):
            self._connection.execute(f"DROP TABLE {table.name}")
        self._connection.execute("DELETE FROM datasets WHERE kind = ?", (kind,))
        self._connection.execute("UPDATE jobs SET rows = NULL WHERE kind = ?", (kind,))

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Rows of a statement that only reads; for training, which joins more than one file."""
        return self._connection.execute(statement, values)

    def close(self) -> None:
        """Folds the log into the file and closes it."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        super().close()

    def _commit(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def _table(self, arn: str) -> str:
        (number,) = self._connection.execute(
            "SELECT number FROM jobs WHERE arn = ?", (arn,)
        ).fetchone()
        return f"rows_{number}"

    def _latest_of_each(self, table: str, key: str) -> None:
        """A record that is in the files twice stands as it came last."""
        self._connection.execute(
            f"DELETE FROM {table} WHERE rowid NOT IN "
            f'(SELECT max(rowid) FROM {table} GROUP BY "{key}")'
        )

    def _add_others(self, before: tuple[Table, ...], new: Table) -> None:
        for table in before:
            names = ", ".join(f'"{name}"' for name in new.columns)
            values = ", ".join(table.column(name) for name in new.columns)
            self._connection.execute(
                f"INSERT OR IGNORE INTO {new.name} ({names}) SELECT {values} FROM {table.name}"
            )


def _column(field: Field) -> str:
    return f'"{field.name}" {_TYPES.get(field.type, "TEXT")}'


def _value(field: Field) -> str:
    return "nullif(?, '')" if field.nullable else "?"


def _connect(path: Path) -> sqlite3.Connection:
    # Opened in one thread and then used by another, never by two at once.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60.0)
