"""Fill the domains' stores from a replay set or a generated hour, through their back ends.

Every entry is a request, as from any caller: a version is a PUT, a tombstone a DELETE, interactions
are posted in batches. Requests of a key go out in the order of the source, one after the other;
several workers share the keys. Doing it again changes nothing but what the source does not date.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit
from zlib import crc32

from schemas.errors import TunemeshError
from schemas.model import Contracts, Role
from verification.entries import Entry, Kind, Source
from verification.progress import Progress, Step, silent

WORKERS = 4
EVENTS_A_REQUEST = 500
KEPT_PROBLEMS = 20
PATIENCE_SECONDS = 60.0
"""How long back ends that do not answer are waited for."""

_RETRY_SECONDS = 0.5
_WAITING = 2_000


class FillError(TunemeshError):
    """The back ends do not answer; what was sent before is stored."""


@dataclass(slots=True)
class FillSummary:
    """What the back ends answered, by domain.

    ``stored``: records made, replaced or deleted, and interactions accepted. ``stale``: versions
    older than the one that is there. ``absent``: deletions of what is not there. ``refused``: what
    the contract does not allow; ``problems`` has the first of them in words.
    """

    stored: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def refuse(self, domain: str, problem: str) -> None:
        """Count what a back end did not take."""
        self.refused[domain] += 1
        if len(self.problems) < KEPT_PROBLEMS:
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
    """Send what a source has to the back ends at ``url``; returns when each has been answered.

    Malformed records are left out: no caller can send them. Raises FillError when no
    back end answers for a minute.
    """
    began = time.monotonic()
    summary = FillSummary()
    lock = threading.Lock()
    hands = [_Worker(url, contracts, summary, lock) for _ in range(workers)]
    total = source.dimension_count + source.stream_count
    events = contracts.only(Role.INTERACTION).name
    try:
        for done, entry in enumerate(
            (e for part in (source.dimensions, source.stream) for e in part()), 1
        ):
            if entry.kind is not Kind.MALFORMED and (interactions or entry.domain != events):
                key = _key(entry, contracts)
                hands[crc32(f"{entry.domain}/{key}".encode()) % workers].take(entry, key)
            progress(Step("stores", min(done, total), total))
    finally:
        for hand in hands:
            hand.end()
    for hand in hands:
        hand.raise_problem()
    summary.seconds = time.monotonic() - began
    return summary


class _Worker:
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
        self._problem: Exception | None = None
        self._waiting: queue.Queue[tuple[Entry, str] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="fill", daemon=True)
        self._thread.start()

    def take(self, entry: Entry, key: str) -> None:
        """Queue an entry; blocks while many wait, raises what has stopped the worker."""
        self.raise_problem()
        self._waiting.put((entry, key))

    def end(self) -> None:
        """Wait until everything queued is answered."""
        self._waiting.put(None)
        self._thread.join()

    def raise_problem(self) -> None:
        """Raise what has stopped the worker, if anything has."""
        if self._problem is not None:
            raise self._problem

    def _run(self) -> None:
        while (taken := self._waiting.get()) is not None:
            self._guarded(partial(self._send, *taken))
        self._guarded(self._post_events)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step unless one has failed: after that the queue is only emptied."""
        if self._problem is None:
            try:
                step()
            except Exception as error:  # noqa: BLE001  # raised where the entries come from
                self._problem = error

    def _send(self, entry: Entry, key: str) -> None:
        if entry.domain == self._events:
            self._batch.append(entry.record)
            if len(self._batch) >= EVENTS_A_REQUEST:
                self._post_events()
            return
        path = f"/{entry.domain}/{quote(key, safe='')}"
        if entry.record is None:
            status, answer = self._request("DELETE", path, None)
        else:
            status, answer = self._request("PUT", path, entry.record)
        with self._lock:
            self._count(entry, key, status, answer)

    def _count(self, entry: Entry, key: str, status: int, answer: Any) -> None:
        if status < 300:
            self._summary.stored[entry.domain] += 1
        elif status == 404 and entry.record is None:
            self._summary.absent[entry.domain] += 1
        elif status == 409:
            self._summary.stale[entry.domain] += 1
        else:
            self._summary.refuse(entry.domain, f"{entry.where or key!r}: {_words(status, answer)}")

    def _post_events(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        status, answer = self._request("POST", f"/{self._events}", batch)
        with self._lock:
            if "accepted" not in (answer or {}):
                raise FillError(f"{self._events}: {_words(status, answer)}")
            self._summary.stored[self._events] += answer["accepted"]
            for error in answer["errors"]:
                self._summary.refuse(
                    self._events, f"{error['event_id']!r}: {error['reason']}: {error['message']}"
                )

    def _request(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """A status and a JSON body; waits for back ends that are away."""
        text = None if body is None else json.dumps(body)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                connection = self._connection or http.client.HTTPConnection(
                    self._address, timeout=60
                )
                self._connection = connection
                connection.request(method, path, text, {"content-type": "application/json"})
                response = connection.getresponse()
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
                    f"the back ends at {self._address} do not answer: {problem}. "
                    "See: tunemesh status"
                )
            time.sleep(_RETRY_SECONDS)


def _key(entry: Entry, contracts: Contracts) -> str:
    contract = contracts[entry.domain]
    if entry.record is None:
        return entry.key or ""
    return str(entry.record.get(contract.key) or entry.record.get("session_id") or "")


def _words(status: int, answer: Any) -> str:
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        field_name = f" {error['field']}" if error.get("field") else ""
        return f"{error['reason']}{field_name}: {error['message']}"
    return f"HTTP {status}"
