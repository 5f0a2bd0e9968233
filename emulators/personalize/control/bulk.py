"""Imported data in SQLite, one file for each dataset group.

A job loads its rows into a table of its own, in batches and in bounded memory, and `publish` adds
the table to the dataset in one transaction. A killed job has therefore changed nothing, and a
published job is not loaded again. The columns are those of the schema, in its order.

`Bulk` belongs to the thread of imports and trainings, `BulkReader` to another one; readers do not
wait.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from emulators.personalize.control.schemas import KINDS, DatasetSchema, Field, Kind
from emulators.personalize.sqlite import connect, transaction

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
_BATCHES_PER_TRANSACTION = 10
_ROWS_PER_TABLE = 2**36
_TYPES: Mapping[str, str] = {
    "int": "INTEGER",
    "long": "INTEGER",
    "float": "REAL",
    "double": "REAL",
}
_IDS: Mapping[Kind, str] = {"USERS": "USER_ID", "ITEMS": "ITEM_ID"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a dataset: name, columns and number of rows."""

    name: str
    columns: tuple[str, ...]
    rows: int

    @property
    def number(self) -> int:
        """The number of the job that loaded the table."""
        return int(self.name.rpartition("_")[2])

    def column(self, name: str) -> str:
        """The column in SQL; NULL if the table does not have it."""
        return f'"{name}"' if name in self.columns else "NULL"


class BulkReader:
    """Reads published data."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, timeout=60.0)

    def tables(self, kind: Kind) -> tuple[Table, ...]:
        """The tables of a dataset; none before its first import."""
        row = self._connection.execute(
            "SELECT tables FROM datasets WHERE kind = ?", (kind,)
        ).fetchone()
        entries = json.loads(row[0]) if row else []
        return tuple(
            Table(entry["name"], tuple(entry["columns"]), entry["rows"]) for entry in entries
        )

    def counts(self) -> dict[str, int]:
        """The number of rows of each dataset: `users`, `items`, `interactions`."""
        return {
            kind.lower(): sum(table.rows for table in self.tables(kind)) for kind in KINDS.values()
        }

    def ids(self, kind: Kind) -> Iterator[str]:
        """The ids of a dataset of users or items."""
        for table in self.tables(kind):
            statement = f'SELECT "{_IDS[kind]}" FROM {table.name}'
            for (record_id,) in self._connection.execute(statement):
                yield record_id

    def records(self, kind: Kind, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The existing records with these ids, by id; each maps columns to values."""
        records: dict[str, dict[str, Any]] = {}
        marks = ",".join("?" * len(ids))
        for table in self.tables(kind):
            statement = f'SELECT * FROM {table.name} WHERE "{_IDS[kind]}" IN ({marks})'
            for row in self._connection.execute(statement, tuple(ids)):
                record = dict(zip(table.columns, row, strict=True))
                records[record[_IDS[kind]]] = record
        return records

    def latest_interactions(self, user_id: str, limit: int) -> list[tuple[str, str, int]]:
        """A user's interactions (item, event type, seconds), newest first.

        Scans the tables unless :meth:`Bulk.index_users` was called.
        """
        rows: list[tuple[str, str, int]] = []
        for table in self.tables("INTERACTIONS"):
            rows += self._connection.execute(
                f"SELECT ITEM_ID, coalesce({table.column('EVENT_TYPE')}, ''), TIMESTAMP "
                f"FROM {table.name} WHERE USER_ID = ? ORDER BY TIMESTAMP DESC LIMIT ?",
                (user_id, limit),
            ).fetchall()
        return sorted(rows, key=lambda row: -row[2])[:limit]

    def page(self, kind: Kind, after: int, limit: int) -> bytes:
        """NDJSON: up to `limit` rows of a dataset after `after`, in the order of the import.

        The `rowid` of a row is the position for the next page; an import changes it.
        """
        lines: list[str] = []
        number, last = divmod(after, _ROWS_PER_TABLE)
        for table in self.tables(kind):
            if table.number < number or len(lines) == limit:
                continue
            cursor = self._connection.execute(
                f"SELECT rowid, * FROM {table.name} WHERE rowid > ? ORDER BY rowid LIMIT ?",
                (last if table.number == number else 0, limit - len(lines)),
            )
            for rowid, *row in cursor:
                position = {"rowid": table.number * _ROWS_PER_TABLE + rowid}
                document = {**position, **dict(zip(table.columns, row, strict=True))}
                lines.append(json.dumps(document, ensure_ascii=False))
        return "".join(f"{line}\n" for line in lines).encode()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class Bulk(BulkReader):
    """Writes and reads imported data."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA cache_size=-65536")
        self._connection.executescript(_SCHEMA)

    def published_rows(self, arn: str) -> int | None:
        """The number of rows of a published job; None for another job."""
        row = self._connection.execute("SELECT rows FROM jobs WHERE arn = ?", (arn,)).fetchone()
        return row[0] if row else None

    def load(self, arn: str, schema: DatasetSchema, batches: Iterator[list[list[str]]]) -> int:
        """Loads the rows of a job into a new table; returns their number.

        `publish` adds the table to the dataset.
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
            if number % _BATCHES_PER_TRANSACTION == 0:
                self._commit()
                connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, batch)
            rows += len(batch)
        self._commit()
        return rows

    def discard(self, arn: str) -> None:
        """Drops the loaded rows of a job; its number is kept."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection.execute(f"DROP TABLE IF EXISTS {self._table(arn)}")

    def publish(self, arn: str, schema: DatasetSchema, mode: Mode, rows: int) -> None:
        """Adds the loaded rows of a job to the dataset, in one transaction, durable on return.

        FULL: they replace all imported rows. INCREMENTAL: users and items replace those with the
        same ids, interactions are added.
        """
        connection = self._connection
        kind, loaded = schema.kind, self._table(arn)
        connection.execute("PRAGMA synchronous=FULL")
        with transaction(connection):
            before = self.tables(kind)
            new = Table(loaded, schema.columns, 0)
            if kind in _IDS:
                self._keep_last_of_each(loaded, _IDS[kind])
                connection.execute(f'CREATE UNIQUE INDEX {loaded}_id ON {loaded} ("{_IDS[kind]}")')
                if mode == "INCREMENTAL":
                    self._add_others(before, new)
            (count,) = connection.execute(f"SELECT count(*) FROM {loaded}").fetchone()
            tables: tuple[Table, ...] = (replace(new, rows=count),)
            if mode == "INCREMENTAL" and kind not in _IDS:
                tables = (*before, *tables)
            text = json.dumps([asdict(table) for table in tables])
            connection.execute("REPLACE INTO datasets (kind, tables) VALUES (?, ?)", (kind, text))
            for table in before:
                if table not in tables:
                    connection.execute(f"DROP TABLE {table.name}")
            connection.execute("UPDATE jobs SET rows = ? WHERE arn = ?", (rows, arn))
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def index_users(self) -> None:
        """Index the interactions by user, for filters on interactions."""
        for table in self.tables("INTERACTIONS"):
            self._connection.execute(
                f"CREATE INDEX IF NOT EXISTS {table.name}_user ON {table.name} (USER_ID, TIMESTAMP)"
            )

    def erase_users(self, users: Iterable[str]) -> int:
        """Remove the rows of users and of their interactions; returns their number.

        Their bytes are overwritten, not only freed.
        """
        connection = self._connection
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TEMP TABLE erased (id TEXT PRIMARY KEY)")
        connection.executemany("INSERT INTO erased VALUES (?)", ((user,) for user in users))
        total = 0
        try:
            with transaction(connection):
                kinds: tuple[Kind, ...] = ("USERS", "INTERACTIONS")
                for kind in kinds:
                    total += self._erase(kind)
        finally:
            connection.execute("DROP TABLE erased")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return total

    def _erase(self, kind: Kind) -> int:
        tables, removed = [], 0
        for table in self.tables(kind):
            count = self._connection.execute(
                f"DELETE FROM {table.name} WHERE USER_ID IN (SELECT id FROM erased)"
            ).rowcount
            tables.append(asdict(replace(table, rows=table.rows - count)))
            removed += count
        self._connection.execute(
            "UPDATE datasets SET tables = ? WHERE kind = ?", (json.dumps(tables), kind)
        )
        return removed

    def clear(self, kind: Kind) -> None:
        """Drops the imported rows of a dataset; its jobs are no longer published."""
        for table in self.tables(kind):
            self._connection.execute(f"DROP TABLE {table.name}")
        self._connection.execute("DELETE FROM datasets WHERE kind = ?", (kind,))
        self._connection.execute("UPDATE jobs SET rows = NULL WHERE kind = ?", (kind,))

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """The rows of a reading statement; for training, which joins several files."""
        return self._connection.execute(statement, values)

    def close(self) -> None:
        """Checkpoint the write-ahead log and close the file."""
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

    def _keep_last_of_each(self, table: str, key: str) -> None:
        """Of records with the same id, keep the last one."""
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
