"""Connections and transactions of the SQLite files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def connect(path: Path, *, timeout: float = 10.0) -> sqlite3.Connection:
    """Open a file without implicit transactions; `timeout` is in seconds.

    A connection may be opened in one thread and used in another, but not by two at once.
    """
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=timeout)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit the statements of the block, or roll them back when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
