"""A producer with transactions, of which every other one is aborted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from verification.positions import create_producer

COMMIT_SECONDS = 0.1
"""A transaction is committed after this time, as Kafka Streams does with exactly-once."""

CALL_SECONDS = 60.0


class TransactionalProducer:
    """Commits what it publishes, and then publishes the same again and aborts it.

    A pipeline that reads the aborted records has each record twice: the second time from a position
    that is in no ledger, and as the newest version of its user or item.
    """

    def __init__(self, bootstrap_servers: str, settings: Mapping[str, Any]) -> None:
        transactional = {"transactional.id": f"faults-{uuid4()}"}
        self._producer = create_producer(bootstrap_servers, {**settings, **transactional})
        self._producer.init_transactions(CALL_SECONDS)
        self._records: list[tuple[str, dict[str, Any]]] = []
        self._began = 0.0
        self.aborted = 0
        """The number of aborted records."""

    def produce(self, topic: str, **record: Any) -> None:
        """Queue a record, in a new transaction unless one is open."""
        if not self._records:
            self._producer.begin_transaction()
            self._began = time.monotonic()
        self._producer.produce(topic, **record)
        self._records.append((topic, {"key": record["key"], "value": record["value"]}))

    def poll(self, timeout: float) -> int:
        """Serve delivery reports, and commit when it is time."""
        served = int(self._producer.poll(timeout))
        if time.monotonic() - self._began >= COMMIT_SECONDS:
            self._commit()
        return served

    def flush(self, timeout: float) -> int:
        """Commit; returns 0."""
        self._commit()
        return 0

    def _commit(self) -> None:
        if not self._records:
            return
        self._flush()
        self._producer.commit_transaction(CALL_SECONDS)
        self._producer.begin_transaction()
        for topic, record in self._records:
            self._producer.produce(topic, **record)
        self._flush()
        self._producer.abort_transaction(CALL_SECONDS)
        self.aborted += len(self._records)
        self._records.clear()

    def _flush(self) -> None:
        left = self._producer.flush(CALL_SECONDS)
        assert left == 0, f"{left} records are not acknowledged within {CALL_SECONDS:.0f} s"
