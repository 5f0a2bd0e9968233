"""When an event may be joined: not before every user and item published earlier has been read.

Flink reads all topics at once, on several workers, so an event could overtake the user or item that
it needs: at a start, after a failure, or because a worker is slow for a moment. No clock can rule
that out. So each worker polls Kafka for the ends of the topics of users and items, and the workers
exchange, by offsets committed for a group of their own, how far they have read. An event passes
once the topics' ends, polled after the event was published, have been read.

In quiet times that costs an event one poll's time. A backlog of users and items, at a start or
after a failure, is waited for before the first event is taken (``wait_for`` in a function's
``open``): a task that blocks between two records also holds up the checkpoint's barrier, and with
aligned checkpoints (``UNALIGNED_CHECKPOINTS``) the joins then stop taking in what is behind it.
Flink begins no checkpoint while a task is opening.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

from connectors.clock import now_ms
from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from jobs.freshness.clock import WorkerClock
from jobs.freshness.gaps import Gaps
from jobs.freshness.settling import DimensionReader, OverloadMeter
from jobs.freshness.stalls import Stalls
from jobs.freshness.watermark import (
    CLOCK_SKEW_MS,
    FreshnessWatermark,
    read_positions,
    started_partitions,
)
from schemas.model import Contracts, Role

LOG = logging.getLogger(__name__)

POLL_INTERVAL_SECONDS = 0.05
"""Between two polls; also about how long an event waits when users and items are quiet."""

RETRY_SECONDS = 1.0
"""After a poll that Kafka has not answered."""

PARTITIONS_SECONDS = 5.0
"""Between two looks for new partitions, whose records are waited for, too."""

RECREATED_SECONDS = 5.0
"""A position beyond its partition's end for so long is one of a topic that was created anew."""

UNALIGNED_CHECKPOINTS = {"execution.checkpointing.unaligned": "true"}
"""Flink's configuration that lets a barrier overtake the records before it.

An event that waits holds up its task's barrier. With aligned checkpoints a join that has received
the barrier of users and items reads no more of them until then: an update that is behind it, and
that the event waits for, would be joined only after the event. (An older name of the key
``execution.checkpointing.unaligned.enabled``: the one that Managed Flink lets code set.)"""


class OffsetStore(Protocol):
    """What this module needs of :class:`connectors.kafka.offsets_process.OffsetsProcess`."""

    def partitions(self, topics: Iterable[str]) -> tuple[Partition, ...]:
        """Return every partition of the topics."""

    def ends(self, partitions: Iterable[Partition]) -> Offsets:
        """Return the offset after the last committed record of each partition."""

    def log_ends(self, partitions: Iterable[Partition]) -> Offsets:
        """Return the offset that the next record of each partition will have."""

    def first_records(self, positions: Offsets) -> Offsets:
        """Return the offset of the first record at each position or later, else the end."""

    def committed(self, group: str, partitions: Iterable[Partition]) -> Offsets:
        """Return what the group has committed; 0 where it has nothing."""

    def commit(self, group: str, offsets: Offsets) -> None:
        """Commit for a group without members."""


def dimension_topics(contracts: Contracts) -> list[str]:
    """Return the topics of users and items."""
    return [c.topic for role in (Role.USER, Role.ITEM) for c in contracts.with_role(role)]


def reset_committed_offsets(store: OffsetStore, topics: Iterable[str], source_group: str) -> None:
    """Discard the offsets committed by a previous deployment: a new one has no state.

    Called at a submission, before the first worker starts.
    """
    store.commit(source_group, dict.fromkeys(store.partitions(topics), 0))


class WorkerClosing(Exception):
    """The job is being stopped or restarted while an event waits; the event will be read again."""


class Freshness:
    """How far users and items have been read, by all workers, as one worker knows it.

    ``group`` keeps the positions that the workers exchange, ``source_group`` is the one that
    Flink's sources commit to with each checkpoint: about where a restored job resumes. ``exact``:
    the workers see where in their restored state (:mod:`connectors.flink.internals.restored`), so
    what Flink has committed does not count. ``event_topics``: their ends are polled to measure the
    worker's clock.
    """

    def __init__(
        self,
        store: OffsetStore,
        topics: Iterable[str],
        *,
        group: str,
        source_group: str,
        event_topics: Iterable[str] = (),
        monotonic: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.watermark = FreshnessWatermark()
        self.clock = WorkerClock()
        self.exact = False
        self._store = store
        self._topics = tuple(topics)
        self._event_topics = tuple(event_topics)
        self._group = group
        self._source_group = source_group
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._readers: weakref.WeakSet[DimensionReader] = weakref.WeakSet()
        self._overload = OverloadMeter(POLL_INTERVAL_SECONDS)
        self._gaps = Gaps()
        self._stalls = Stalls()
        self._partitions: tuple[Partition, ...] = ()
        self._event_partitions: tuple[Partition, ...] = ()
        self._is_skew_logged = False
        self._listed_at = 0.0
        self._restored: dict[Partition, int] = {}
        self._beyond_end: dict[Partition, float] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._closings = 0
        self._releases = 0
        self._waiting = 0

    def begin_attempt(self) -> None:
        """Discard the positions of an earlier attempt; every function calls it when it opens.

        A worker that has read since then commits its own again with its next poll.
        """
        with self._lock:
            self.watermark.reset()
            self._gaps.reset()
            self._stalls.reset()
            self._beyond_end.clear()
            self._list_partitions()
            self._restored = self._committed_by_sources()
            self._store.commit(self._group, dict.fromkeys(self._partitions, 0))

    def pause(self) -> None:
        """Expect no poll for a while: that it comes late says nothing of the machine's load."""
        with self._lock:
            self._overload.pause()

    def add_reader(self, reader: DimensionReader) -> None:
        """Count what a decode function has read for as long as the function exists."""
        with self._lock:
            reader.model.overload_seconds = self._overload.seconds
            self._readers.add(reader)

    def remove_reader(self, reader: DimensionReader) -> None:
        """Discard the positions of a function that closes, and wake those who would wait for it."""
        with self._lock:
            if reader not in self._readers:
                return
            self._readers.discard(reader)
        with self._changed:
            self._closings += 1
            self._changed.notify_all()

    def poll(self) -> None:
        """Poll Kafka once and advance the watermark as far as what has been read allows."""
        with self._lock:
            polled_ms, now = self._wall_ms(), self._monotonic()
            self._overload.poll(now)
            for reader in self._readers:
                reader.model.overload_seconds = self._overload.seconds
            if now - self._listed_at >= PARTITIONS_SECONDS:
                self._list_partitions()
            ends = self._store.ends(self._partitions)
            self.watermark.add_poll(polled_ms, ends)
            self.watermark.advance(self._positions(ends, now))
            if self._event_topics and self.clock.is_due(now):
                self._measure_clock(now)
        with self._changed:
            self._changed.notify_all()

    def published_ms(self, partition: Partition, offset: int, timestamp_ms: int) -> int:
        """Return when an event was published by this worker's clock, if that is ahead."""
        if self.clock.candidates:
            self.clock.add_event(partition, offset, timestamp_ms, self._wall_ms())
        return timestamp_ms + self.clock.ahead_ms

    def wait_for(self, timestamp_ms: int) -> bool:
        """Block until an event published at that time of this worker's clock may pass; returns
        whether by a time-out.

        Raises WorkerClosing when a function of users or items closes meanwhile: the whole job is
        ending, and a thread that waits would delay that.
        """
        with self._changed:
            closings, releases, given_up = self._closings, self._releases, self.given_up
            self._waiting += 1
            try:
                while self.watermark.until_ms < timestamp_ms and self._releases == releases:
                    if self._closings != closings:
                        raise WorkerClosing("users and items are no longer read by this worker")
                    self._changed.wait(1.0)
            finally:
                self._waiting -= 1
            return self._releases != releases or self.given_up > given_up

    @property
    def given_up(self) -> int:
        """How many partitions have an unread rest that is not waited for any longer."""
        return len(self._stalls.given_up)

    @property
    def is_holding(self) -> bool:
        """Whether an event is being held at this moment."""
        with self._changed:
            return self._waiting > 0

    def _list_partitions(self) -> None:
        listed = self._store.partitions((*self._topics, *self._event_topics))
        self._partitions = tuple(p for p in listed if p[0] in self._topics)
        self._event_partitions = tuple(p for p in listed if p[0] not in self._topics)
        self._listed_at = self._monotonic()

    def _measure_clock(self, now: float) -> None:
        asked_ms = self._wall_ms()
        self.clock.add_ends(asked_ms, self._store.log_ends(self._event_partitions), now)
        skew_ms = self.clock.skew_ms
        if abs(skew_ms) > CLOCK_SKEW_MS and not self._is_skew_logged:
            self._is_skew_logged = True
            direction = "ahead of" if skew_ms > 0 else "behind"
            LOG.warning(
                "this worker's clock is %d ms or more %s the brokers'. Synchronise the clocks, for"
                " instance with NTP; the metric clock_skew_ms shows the difference",
                abs(skew_ms),
                direction,
            )

    def _committed_by_sources(self) -> dict[Partition, int]:
        if self.exact:
            return {}
        return dict(self._store.committed(self._source_group, self._partitions))

    def _positions(self, ends: Offsets, now: float) -> Offsets:
        """Up to where each partition has been read, or is not waited for."""
        own: dict[Partition, int] = {}
        for reader in self._readers:
            own.update(reader.settled(now))
        shared = dict(self._store.committed(self._group, self._partitions))
        news = {p: offset for p, offset in own.items() if offset != shared.get(p, 0)}
        if news:
            self._store.commit(self._group, news)
            shared.update(news)
        started = started_partitions(shared, own)
        if any(p not in started and self._restored.get(p, 0) < ends[p] for p in self._partitions):
            # A checkpoint since the start tells where a restored job has resumed.
            for partition, offset in self._committed_by_sources().items():
                self._restored[partition] = max(self._restored.get(partition, 0), offset)
        read = self._without_recreated(
            read_positions(self._partitions, started, shared, self._restored), ends, now
        )
        if asked := self._gaps.unexplained(self._gaps.skip(read), ends, now):
            self._gaps.add(read, asked, self._store.first_records(asked))
        positions = {}
        for partition, position in self._gaps.skip(read).items():
            positions[partition], released = self._stalls.check(
                partition, position, ends[partition], is_started=partition in started, now=now
            )
            if released:
                with self._changed:
                    self._releases += 1
                    self._changed.notify_all()
        return positions

    def _without_recreated(self, positions: Offsets, ends: Offsets, now: float) -> Offsets:
        """The positions; 0 for one that has been beyond its partition's end for a while."""
        result = dict(positions)
        for partition, position in positions.items():
            if position <= ends[partition]:
                self._beyond_end.pop(partition, None)
            elif now - self._beyond_end.setdefault(partition, now) >= RECREATED_SECONDS:
                result[partition] = 0
        return result


class Watch:
    """A thread that polls as long as a function of the worker is open.

    ``close_store`` frees what the freshness reads Kafka's offsets with.
    """

    def __init__(
        self, freshness: Freshness, close_store: Callable[[], None] = lambda: None
    ) -> None:
        self.freshness = freshness
        self._close_store = close_store
        self._functions: weakref.WeakKeyDictionary[object, bool] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, function: object, *, exact: bool) -> None:
        """Poll for a function that opens; its process is in a new attempt.

        ``exact``: whether the function sees its restored state. Freshness is exact if all do.
        """
        with self._lock:
            self.freshness.exact = exact and all(self._functions.values())
        self.freshness.begin_attempt()
        with self._lock:
            self._functions[function] = exact
            if self._thread is None or not self._thread.is_alive():
                self.freshness.pause()
                self._thread = threading.Thread(target=self._run, name="freshness", daemon=True)
                self._thread.start()

    def remove(self, function: object) -> None:
        """Stop polling for a function that closes; the thread ends with the last one."""
        with self._lock:
            self._functions.pop(function, None)

    def close(self) -> None:
        """Wait until the thread has ended, and close the store; no function is open."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        self._close_store()

    def _run(self) -> None:
        is_answered = True
        while True:
            with self._lock:
                if not self._functions:
                    self._thread = None
                    return
            try:
                self.freshness.poll()
                is_answered = True
            except OffsetsUnavailable as error:
                if is_answered:
                    LOG.warning("events wait until Kafka's offsets can be read: %s", error)
                is_answered = False
                # Flink's own sources have the same trouble.
                time.sleep(RETRY_SECONDS)
            time.sleep(POLL_INTERVAL_SECONDS)
