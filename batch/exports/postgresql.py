"""Records of a PostgreSQL table: partitioned reads of one consistent snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from batch.exports.records import Partition
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord

FETCH_ROWS: Final = 5_000
"""Rows that a reader's cursor fetches at once and holds in memory."""


class DatabaseError(TunemeshError):
    """PostgreSQL cannot be reached or rejects a query; the message says what was attempted."""


class PostgresqlSource:
    """A table whose columns are the contract's fields, split by ranges of its key.

    All readers see the same snapshot of the table: the first connection exports it
    (``pg_export_snapshot``), the others import it. The ranges are quantiles of the key, so that
    they have the same size; keys may be of any type with an order.

    conninfo     of libpq: "host=... dbname=..." or postgresql://...
    table        its name, with a schema before it or without
    columns      the fields to read; those that the table lacks are left out of the records
    """

    def __init__(
        self, conninfo: str, table: str, key: str, columns: Sequence[str], partitions: int = 8
    ) -> None:
        self._conninfo = conninfo
        self._name = table
        self._table = sql.Identifier(*table.split("."))
        self._key = sql.Identifier(key)
        self._wanted = tuple(columns)
        self._partitions = partitions
        self._snapshot: str | None = None
        self._keeper: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()
        self._open: set[psycopg.Connection[Any]] = set()

    def partitions(self) -> Sequence[Partition]:
        """The ranges of the key; raises DatabaseError. Holds a transaction until :meth:`close`."""
        try:
            self._keeper = keeper = self._connect()
            with keeper.cursor() as cursor:
                cursor.execute("SELECT pg_export_snapshot()")
                (self._snapshot,) = cursor.fetchone() or (None,)
                cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(self._table))
                present = {column.name for column in cursor.description or ()}
                bounds = self._bounds(cursor)
        except psycopg.Error as error:
            raise self._error(error) from error
        columns = tuple(name for name in self._wanted if name in present)
        edges = [None, *bounds, None]
        count = len(edges) - 1
        return [
            Partition(
                f"{self._name}, range {number + 1} of {count}",
                partial(self._read, columns, low, high),
            )
            for number, (low, high) in enumerate(pairwise(edges))
        ]

    def close(self) -> None:
        """Ends all transactions."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _bounds(self, cursor: psycopg.Cursor[Any]) -> list[Any]:
        """Distinct keys between the ranges, ascending."""
        fractions = [number / self._partitions for number in range(1, self._partitions)]
        if not fractions:
            return []
        statement = sql.SQL(
            "SELECT percentile_disc(%s::float8[]) WITHIN GROUP (ORDER BY {key}) FROM {table}"
        ).format(key=self._key, table=self._table)
        cursor.execute(statement, (fractions,))
        (keys,) = cursor.fetchone() or (None,)
        return list(dict.fromkeys(keys or ()))

    def _read(
        self, columns: tuple[str, ...], low: Any, high: Any
    ) -> Iterator[Mapping[str, Any] | InvalidRecord]:
        conditions: list[sql.Composable] = [sql.SQL("TRUE")]
        if low is not None:
            conditions.append(sql.SQL("{} >= {}").format(self._key, sql.Literal(low)))
        elif high is not None:
            # The first range includes the records without a key: they are rejected, not lost.
            below = sql.SQL("({key} < {high} OR {key} IS NULL)")
            conditions.append(below.format(key=self._key, high=sql.Literal(high)))
        if low is not None and high is not None:
            conditions.append(sql.SQL("{} < {}").format(self._key, sql.Literal(high)))
        statement = sql.SQL("SELECT {columns} FROM {table} WHERE {where}").format(
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            table=self._table,
            where=sql.SQL(" AND ").join(conditions),
        )
        try:
            connection = self._connect()
            try:
                assert self._snapshot is not None
                connection.execute(
                    sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self._snapshot))
                )
                with connection.cursor(name="export", row_factory=dict_row) as cursor:
                    cursor.itersize = FETCH_ROWS
                    cursor.execute(statement)
                    yield from cursor
            finally:
                with self._lock:
                    self._open.discard(connection)
                connection.close()
        except psycopg.Error as error:
            raise self._error(error) from error

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            connection = psycopg.connect(self._conninfo, connect_timeout=10, autocommit=False)
        except psycopg.ProgrammingError:
            # Its text quotes the connection string, which may have a password.
            raise DatabaseError(
                "the connection string of PostgreSQL is invalid (it is not shown); expected one of"
                " libpq: host=... dbname=... or postgresql://..."
            ) from None
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with self._lock:
            self._open.add(connection)
        return connection

    def _error(self, error: psycopg.Error) -> DatabaseError:
        text = " ".join(str(error).split())
        return DatabaseError(f"cannot read the table {self._name} from PostgreSQL: {text}")
