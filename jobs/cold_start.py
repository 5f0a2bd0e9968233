"""Users and items first: when interactions may start to flow after a start or a restart.

On a start every topic is read at once, and an event could overtake the user or item that it needs.
So the interactions' decode function opens only when the users and items that wait on their topics
have passed. The functions of a worker share this module; across workers the watermark alignment of
the sources holds events back (connectors/kafka.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.contracts import Role

QUIET_SECONDS = 1.5
"""Users and items are read when none that waited has come for this long: longer than a fetch."""

EMPTY_SECONDS = 5.0
"""A function that has seen no record gets this long: its consumer may still be connecting."""

RESTART_SECONDS = 20.0
"""A worker that has run before waits at least this long: another may be new, and take its time.

The alignment of the sources does not know of a source that has not yet read, so events of a worker
that goes on at once would pass the users and items of one that is still loading Python.
"""

LIVE_MS = 1_000
"""A record this fresh was not waiting on its topic: it has just been published."""

LIMIT_SECONDS = 600.0
"""After this long interactions flow anyway; alignment still holds them behind users and items."""

OPEN_SECONDS = 8.0
"""How long to wait for the users' and items' functions of this worker to open at all.

In process mode a function opens with its first record, so not where none comes.
"""


@dataclass(slots=True, eq=False)
class Progress:
    """What one decode function of users or items has done last; times are of a monotonic clock."""

    role: Role
    opened: float
    patience: float = 0.0
    last_backlog: float | None = None
    seen: bool = False

    def record(self, timestamp_ms: int, now: float, wall_ms: int) -> None:
        """Note a record published at ``timestamp_ms`` and seen at ``wall_ms``."""
        self.seen = True
        if timestamp_ms < wall_ms - LIVE_MS:
            self.last_backlog = now

    def is_read(self, now: float) -> bool:
        """Whether what waited for this function has passed, as far as it can tell."""
        if now - self.opened < self.patience:
            return False
        if not self.seen:
            return now - self.opened >= EMPTY_SECONDS
        return self.last_backlog is None or now - self.last_backlog >= QUIET_SECONDS


@dataclass(slots=True)
class DimensionsProgress:
    """The users' and items' decode functions of one worker process."""

    _functions: set[Progress] = field(default_factory=set)
    _ran_before: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def opened(self, role: Role, now: float) -> Progress:
        """Register a function that opens; returns what it reports to."""
        with self._lock:
            progress = Progress(role, now, RESTART_SECONDS if self._ran_before else 0.0)
            self._functions.add(progress)
        return progress

    def closed(self, progress: Progress) -> None:
        """Forget a function that closes."""
        with self._lock:
            self._functions.discard(progress)
            self._ran_before = True

    def are_read(self, now: float) -> bool:
        """Whether users and items have opened and none that waited has come for a while."""
        with self._lock:
            roles = {function.role for function in self._functions}
        return {Role.USER, Role.ITEM} <= roles and self._opened_are_read(now)

    def _opened_are_read(self, now: float) -> bool:
        with self._lock:
            functions = tuple(self._functions)
        return all(function.is_read(now) for function in functions)

    def wait_until_read(
        self, monotonic: Callable[[], float], sleep: Callable[[float], None]
    ) -> bool:
        """Block until :meth:`are_read`; False when the limit ran out first."""
        start = monotonic()
        while not self.are_read(now := monotonic()):
            waited = now - start
            if waited > LIMIT_SECONDS or (waited > OPEN_SECONDS and self._opened_are_read(now)):
                return False
            sleep(0.05)
        return True


DIMENSIONS = DimensionsProgress()
"""Of this worker process."""
