"""Fill the domains' stores through their back ends, from a replay set or generated data.

Each entry is a request: a version is a PUT, a tombstone a DELETE, interactions are posted in
batches. The requests of a key are sent in the order of the source, one after the other; several
workers share the keys. Running it again changes only records without an update time.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from urllib.parse import quote, urlsplit
from zlib import crc32

from schemas.errors import TunemeshError
from schemas.model import Contracts, Role
from verification.entries import Entry, Kind, Source
from verification.progress import Progress, Step, silent

WORKERS = 4
EVENTS_PER_REQUEST = 500
MAX_PROBLEMS = 20
MAX_WAIT_SECONDS = 60.0
"""How long a request is retried while the back ends do not answer."""

_RETRY_SECONDS = 0.5
_MAX_PENDING = 5_000


class FillError(TunemeshError):
    """The back ends do not answer; what was sent before is stored."""


@dataclass(slots=True)
class FillSummary:
    """The answers of the back ends, by domain.

    ``stored``: records created, replaced or deleted, and accepted interactions. ``stale``: versions
    older than the stored one. ``absent``: deletions of records that do not exist. ``refused``:
    records that break the contract; ``problems`` has the first messages.
    """

    stored: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def refuse(self, domain: str, problem: str) -> None:
        """Count a refused record."""
        self.refused[domain] += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{domain}: {problem}")


def fill(
    source: Source,
    url: str,
    contracts: Contracts,
    progress: Progress = silent,
    *,
    interactions: bool = True,
    workers: int = WORKERS,
) -> FillSummary:
    """Send the entries of a source to the back ends at ``url``; return when all are answered.

    Malformed records are left out: no caller can send them. Raises FillError when no back end
    answers for a minute.
    """
    began = time.monotonic()
    summary = FillSummary()
    lock = threading.Lock()
    senders = [_Sender(url, contracts, summary, lock) for _ in range(workers)]
    total = source.dimension_count + source.stream_count
    events = contracts.only(Role.INTERACTION).name
    pending: deque[Future[None]] = deque()
    with ExitStack() as stack:
        pools = []
        for _ in senders:
            pools.append(stack.enter_context(ThreadPoolExecutor(1, "fill")))
            stack.callback(pools[-1].shutdown, cancel_futures=True)
        for done, entry in enumerate(chain(source.dimensions(), source.stream()), 1):
            if entry.kind is not Kind.MALFORMED and (interactions or entry.domain != events):
                key = _key(entry, contracts)
                number = crc32(f"{entry.domain}/{key}".encode()) % workers
                pending.append(pools[number].submit(senders[number].send, entry, key))
                if len(pending) > _MAX_PENDING:
                    pending.popleft().result()
            progress(Step("stores", min(done, total), total))
        for future in pending:
            future.result()
    for sender in senders:
        sender.post_events()
    summary.seconds = time.monotonic() - began
    return summary


class _Sender:
    """Sends the entries of its keys, one request at a time."""

    def __init__(
        self, url: str, contracts: Contracts, summary: FillSummary, lock: threading.Lock
    ) -> None:
        self._address = urlsplit(url).netloc
        self._events = contracts.only(Role.INTERACTION).name
        self._summary = summary
        self._lock = lock
        self._connection: http.client.HTTPConnection | None = None
        self._batch: list[Any] = []

    def send(self, entry: Entry, key: str) -> None:
        """Send an entry and count the answer; interactions are batched."""
        if entry.domain == self._events:
            self._batch.append(entry.record)
            if len(self._batch) >= EVENTS_PER_REQUEST:
                self.post_events()
            return
        method = "DELETE" if entry.record is None else "PUT"
        path = f"/{entry.domain}/{quote(key, safe='')}"
        status, answer = self._request(method, path, entry.record)
        with self._lock:
            if status < 300:
                self._summary.stored[entry.domain] += 1
            elif status == 404 and entry.record is None:
                self._summary.absent[entry.domain] += 1
            elif status == 409:
                self._summary.stale[entry.domain] += 1
            else:
                problem = f"{entry.where or key!r}: {_describe(status, answer)}"
                self._summary.refuse(entry.domain, problem)

    def post_events(self) -> None:
        """Send the batched interactions and count the answers."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        status, answer = self._request("POST", f"/{self._events}", batch)
        with self._lock:
            if "accepted" not in (answer or {}):
                raise FillError(f"{self._events}: {_describe(status, answer)}")
            self._summary.stored[self._events] += answer["accepted"]
            for error in answer["errors"]:
                self._summary.refuse(
                    self._events, f"{error['event_id']!r}: {error['reason']}: {error['message']}"
                )

    def _request(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return the status and JSON body of an answer; retry while the back ends do not answer."""
        text = None if body is None else json.dumps(body)
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while True:
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection(self._address, timeout=60)
                self._connection.request(method, path, text, {"content-type": "application/json"})
                response = self._connection.getresponse()
                content = response.read()
                if response.status != http.HTTPStatus.SERVICE_UNAVAILABLE:
                    return response.status, json.loads(content) if content else None
                problem = content.decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                problem = str(error)
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
            if time.monotonic() >= deadline:
                raise FillError(
                    f"the back ends at {self._address} do not answer ({problem})."
                    " See: tunemesh status"
                )
            time.sleep(_RETRY_SECONDS)


def _key(entry: Entry, contracts: Contracts) -> str:
    contract = contracts[entry.domain]
    if entry.record is None:
        return entry.key or ""
    return str(entry.record.get(contract.key) or entry.record.get("session_id") or "")


def _describe(status: int, answer: Any) -> str:
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        field_name = f" {error['field']}" if error.get("field") else ""
        return f"{error['reason']}{field_name}: {error['message']}"
    return f"HTTP {status}"
