"""Users on PostgreSQL, and the outbox of their changes.

One transaction writes both, so exactly the committed changes are published. Changes of a key wait
for its lock, which a transaction holds until its end, so a later one has the higher number in the
outbox and is committed later.
"""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Iterator

import psycopg

from connectors.stores.postgresql import Table, quoted
from schemas.codec import Record
from schemas.errors import SettingError
from schemas.model import Contract
from services.domain import Decide
from services.http import Unavailable

OUTBOX_STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  contract text NOT NULL,
  key text NOT NULL,
  record json,  -- null: removed
  committed_after timestamptz NOT NULL DEFAULT now()
)""",
    # Earlier releases marked what was published, and kept it for a day.
    """DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'outbox'::regclass
             AND attname = 'published_at' AND NOT attisdropped) THEN
    DELETE FROM outbox WHERE published_at IS NOT NULL;
    ALTER TABLE outbox DROP COLUMN published_at;
  END IF;
END $$""",
    """CREATE TABLE IF NOT EXISTS outbox_lease (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  until timestamptz NOT NULL
)""",
    "INSERT INTO outbox_lease (until) VALUES (now()) ON CONFLICT DO NOTHING",
)

SET_UP_LOCK = 7_001
PUBLISHER_LOCK = 7_002
"""Advisory locks: of the creation of the tables, and of the active publisher."""

CONNECT_SECONDS = 5
SILENCE_MS = 2_000
"""How long a caller waits for a server that does not answer."""


class StoreFailed(Exception):
    """The database rejected a statement; without the details, which have values of the record."""


def connect(database: str) -> psycopg.Connection:
    """A connection with autocommit; raises Unavailable, SettingError."""
    try:
        return psycopg.connect(
            database,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            tcp_user_timeout=SILENCE_MS,
            application_name="tunemesh",
        )
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database: {str(error).strip()}") from error
    except psycopg.ProgrammingError:
        # Its text quotes the connection string, which may have a password.
        raise SettingError(
            "TUNEMESH_DATABASE",
            database,
            "a connection string of libpq",
            fault="is invalid (its value is not shown)",
        ) from None


def create_tables(database: str, contract: Contract) -> None:
    """Create the domain's table and the outbox; add the columns of a new schema version."""
    with connect(database) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (SET_UP_LOCK,))
        for statement in (*Table(contract).statements(), *OUTBOX_STATEMENTS):
            connection.execute(statement.encode())


class UserStore:
    """A :class:`services.domain.RecordStore`; connections are reused."""

    def __init__(self, database: str, contract: Contract) -> None:
        self._database = database
        self._contract = contract
        self._table = Table(contract)
        self._idle: queue.LifoQueue[psycopg.Connection] = queue.LifoQueue()
        name, key = quoted(self._table.name), quoted(self._table.key)
        columns = self._table.column_list
        marks = ", ".join("%s" for _ in self._table.columns)
        others = [quoted(column) for column in self._table.columns if column != self._table.key]
        changed = ", ".join(f"{column} = EXCLUDED.{column}" for column in others)
        self._select = f"SELECT {columns} FROM {name} WHERE {key} = %s".encode()
        self._upsert = (
            f"INSERT INTO {name} ({columns}) VALUES ({marks})"
            f" ON CONFLICT ({key}) DO UPDATE SET {changed}"
        ).encode()
        self._remove = f"DELETE FROM {name} WHERE {key} = %s".encode()

    def read(self, key: str) -> Record | None:
        """See :class:`services.domain.RecordStore`."""
        with self._connection() as connection:
            return self._read(connection, key)

    def change(self, key: str, decide: Decide) -> None:
        """See :class:`services.domain.RecordStore`."""
        with self._connection() as connection, connection.transaction():
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
                (f"{self._contract.name}/{key}",),
            )
            change = decide(self._read(connection, key))
            if change is None:
                return
            if change.record is None:
                connection.execute(self._remove, (key,))
            else:
                connection.execute(self._upsert, self._table.to_row(change.record))
            record = None if change.record is None else json.dumps(change.record)
            connection.execute(
                "INSERT INTO outbox (contract, key, record) VALUES (%s, %s, %s)",
                (self._contract.name, key, record),
            )

    def close(self) -> None:
        """Close the idle connections."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _read(self, connection: psycopg.Connection, key: str) -> Record | None:
        row = connection.execute(self._select, (key,)).fetchone()
        return None if row is None else self._table.from_row(row)

    def _take_idle(self) -> psycopg.Connection | None:
        """An idle connection that still works: the server may have been restarted meanwhile."""
        with contextlib.suppress(queue.Empty):
            while True:
                connection = self._idle.get_nowait()
                try:
                    connection.execute("SELECT 1")
                    return connection
                except psycopg.Error:
                    connection.close()
        return None

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        connection = self._take_idle() or connect(self._database)
        try:
            yield connection
        except psycopg.OperationalError as error:
            raise Unavailable(f"the database: {str(error).strip()}") from error
        except psycopg.Error as error:
            what = f"{type(error).__name__} {error.sqlstate}: {error.diag.message_primary}"
            raise StoreFailed(what) from None
        finally:
            if connection.closed or connection.broken:
                connection.close()
            else:
                self._idle.put(connection)
