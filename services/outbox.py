"""Publishes the outbox of PostgreSQL: committed changes, in order per key, at least once.

What is published is removed from the outbox: a record may have personal data, which nothing but its
table keeps. A change that does not fit its contract becomes a dead letter.

One publisher is active at a time. The others wait for its lock, which the database releases when
its connection ends, and then until its lease has expired: by then its messages under way have been
withdrawn or have arrived, so none of them overtakes those of the next publisher. A publisher renews
its lease while it waits for the broker, and withdraws its messages under way when it cannot.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from connectors.clock import now_ms
from connectors.glue.registry import RegistryError
from schemas.model import Contracts, load_contracts
from services.dead_letters import refused_change
from services.http import Event, Unavailable
from services.publishing import Message, PublishingDenied, TopicPublisher
from services.records import InvalidInput, Rules
from services.settings import ServiceSettings
from services.user_store import PUBLISHER_LOCK, SILENCE_MS, connect

BATCH = 500
LEASE_SECONDS = 2 * SILENCE_MS / 1000
"""Longer than it takes to renew it, or to notice that the database does not answer."""

IDLE_SECONDS = 0.1
RETRY_SECONDS = 1.0
LAMBDA_RESERVE_MS = 10_000
"""The time left of an invocation when it stops publishing more."""

_log = logging.getLogger(__name__)

_PENDING = (
    "SELECT id, contract, key, record, (extract(epoch FROM committed_after) * 1000)::bigint"
    " FROM outbox ORDER BY id LIMIT %s"
)
_PUBLISHED = "DELETE FROM outbox WHERE id = ANY(%s)"
_RENEW = "UPDATE outbox_lease SET until = clock_timestamp() + make_interval(secs => %s)"
_REMAINING = "SELECT extract(epoch FROM until - clock_timestamp()) FROM outbox_lease"
_TRY_LOCK = "SELECT pg_try_advisory_lock(%s)"


class NotPublished(Exception):
    """The broker has not accepted a change; it remains in the outbox."""


_RETRIED = (psycopg.Error, Unavailable, NotPublished, PublishingDenied, RegistryError)
"""What a publisher that runs continuously logs and waits for."""


class OutboxPublisher:
    """Publishes an outbox; ``stop`` ends it at any point."""

    def __init__(
        self,
        database: str,
        publisher: TopicPublisher,
        contracts: Contracts,
        stop: threading.Event,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._contracts = contracts
        self._stop = stop
        self._lease_seconds = lease_seconds
        self._renewed = 0.0
        self._rules: dict[str, Rules] = {}

    def run(self) -> None:
        """Publish until ``stop`` is set; errors of database or broker are retried."""
        while not self._stop.is_set():
            try:
                with self._exclusive() as connection:
                    while not self._stop.is_set():
                        if not self._publish_batch(connection, self._is_running):
                            self._stop.wait(IDLE_SECONDS)
                            self._renew(connection)
            except _RETRIED as error:
                _log.warning("the outbox is not published at present: %s", str(error).strip())
                self._stop.wait(RETRY_SECONDS)

    def drain(self, more: Callable[[], bool]) -> int:
        """Publish pending changes while ``more`` returns True; returns their number.

        Raises Unavailable, NotPublished. Returns 0 while another publisher is active.
        """
        count = 0
        with connect(self._database) as connection:
            if not _locked(connection):
                return 0
            try:
                self._await_lease(connection)
                while more() and (done := self._publish_batch(connection, more)):
                    count += done
            finally:
                self._end_lease(connection)
        return count

    @contextmanager
    def _exclusive(self) -> Iterator[psycopg.Connection]:
        """A connection that holds the lock, once no other publisher is active."""
        with connect(self._database) as connection:
            while not _locked(connection):
                if self._stop.wait(IDLE_SECONDS):
                    raise NotPublished("stopped while another publisher is active")
            self._await_lease(connection)
            try:
                yield connection
            finally:
                self._end_lease(connection)

    def _await_lease(self, connection: psycopg.Connection) -> None:
        remaining = float(_value(connection, _REMAINING))
        if remaining > 0:
            _log.info("waiting %.1f s for the lease of a former publisher", remaining)
            self._stop.wait(remaining)
        self._renewed = 0.0
        self._renew(connection)

    def _end_lease(self, connection: psycopg.Connection) -> None:
        """End the lease for the next publisher: no message is under way."""
        if not (connection.closed or connection.broken):
            connection.execute(_RENEW, (0,))

    def _renew(self, connection: psycopg.Connection) -> None:
        if time.monotonic() - self._renewed >= self._lease_seconds / 4:
            self._renewed = time.monotonic()
            connection.execute(_RENEW, (self._lease_seconds,))

    def _is_running(self) -> bool:
        return not self._stop.is_set()

    def _publish_batch(self, connection: psycopg.Connection, more: Callable[[], bool]) -> int:
        """Publish the next changes of the outbox; returns their number."""
        rows = connection.execute(_PENDING, (BATCH,)).fetchall()
        if not rows:
            return 0
        messages = [self._message(*row) for row in rows]

        def meanwhile() -> None:
            if not more():
                raise NotPublished("no time left to wait for the broker's answer")
            self._renew(connection)

        problems = self._publisher.publish(messages, float("inf"), meanwhile)
        published, problem = _in_order(rows, problems)
        connection.execute(_PUBLISHED, (published,))
        if problem is not None:
            raise NotPublished(problem)
        return len(published)

    def _message(self, number: int, name: str, key: str, record: Any, committed_ms: int) -> Message:
        """The message of a change, or its dead letter."""
        contract = self._contracts.by_name.get(name)
        if contract is None:
            raise NotPublished(f"change {number} is of {name!r}, of which there is no contract")
        rules = self._rules.setdefault(name, Rules(contract))
        try:
            if record is None:
                return Message(contract, rules.check_id(key), None)
            complete = rules.completed(record)
            rules.check(complete, now_ms())
        except InvalidInput as error:
            _log.error(
                "change %d of %s does not fit its contract and becomes a dead letter: %s %s",
                number,
                name,
                error.reason,
                error.field or "",
            )
            return refused_change(
                contract, key, record, error, number=number, changed_ms=committed_ms
            )
        return Message(contract, key, complete)


def _in_order(
    rows: Sequence[tuple[Any, ...]], problems: Sequence[str | None]
) -> tuple[list[int], str | None]:
    """The ids that count as published, and the first problem.

    A change that was published after a failed one of its key is sent again, behind that one.
    """
    published: list[int] = []
    failed: set[tuple[str, str]] = set()
    first: str | None = None
    for (number, name, key, *_), problem in zip(rows, problems, strict=True):
        if problem is not None:
            failed.add((name, key))
            first = first or f"change {number} of {name}: {problem}"
        elif (name, key) not in failed:
            published.append(number)
    return published, first


def _locked(connection: psycopg.Connection) -> bool:
    return bool(_value(connection, _TRY_LOCK, (PUBLISHER_LOCK,)))


def _value(connection: psycopg.Connection, query: str, arguments: tuple[Any, ...] = ()) -> Any:
    row = connection.execute(query.encode(), arguments).fetchone()
    assert row is not None
    return row[0]


def handler(event: Event, context: Any) -> dict[str, int]:
    """Publish pending changes; invoked by a schedule. Raises the error that stopped it."""
    settings = ServiceSettings.from_environment()
    outbox = OutboxPublisher(
        settings.required_database, settings.publisher(), load_contracts(), threading.Event()
    )

    def more() -> bool:
        return bool(context.get_remaining_time_in_millis() > LAMBDA_RESERVE_MS)

    return {"published": outbox.drain(more)}
