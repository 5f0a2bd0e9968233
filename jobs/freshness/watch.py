"""When an event may be joined: not before every user and item published earlier has been read.

Flink reads all topics at once, on several workers, so an event could overtake the user or item that
it needs: at a start, after a failure, or because a worker is slow for a moment. No clock can rule
that out. So each worker keeps asking Kafka where the topics of users and items end, and the workers
tell each other, by offsets committed for a group of their own, how far they have read. An event
passes once the topics' ends, asked for after the event was published, have been read.

In quiet times that costs an event one question's time. A backlog of users and items, at a start or
after a failure, is waited for before the first event is taken (``wait_for`` in a function's
``open``): a task that blocks between two records also holds up the checkpoint's barrier, the joins
then stop taking in what is behind it, and what is waited for is never read. Flink begins no
checkpoint while a task is opening.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple, Protocol

from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from schemas.model import Contracts, Role

INTERVAL_SECONDS = 0.05
"""Between two questions; also about how long an event waits when users and items are quiet."""


class Settling(NamedTuple):
    """Seconds from decoding a user or item to its being in the join's state for sure."""

    cold: float
    """In a function's first COLD_SECONDS: everything behind it is still starting."""

    warm: float


THREAD_SETTLING = Settling(cold=1.0, warm=0.15)
"""Flink's network buffers are flushed every 100 ms."""

BUNDLE_SETTLING = Settling(cold=5.0, warm=1.5)
"""In process mode, where a record leaves Python with its bundle, up to a second later."""

COLD_SECONDS = 20.0
"""From the first record that a function decodes."""

JOIN_RECORDS_PER_SECOND = 5_000
"""What the joins take in at the least, for each decode function; faster reading queues up before
them, and what is queued needs that much longer to settle."""

LONGEST_QUEUE_SECONDS = 5.0
"""Flink's network buffers hold no more than the joins take in within this."""

EASY_SECONDS = 0.1
"""A question takes less than this beyond INTERVAL_SECONDS where the machine is not too busy."""

STRAIN = 4.0
"""What is slower than that by a second, on this thread and at the broker, is taken to slow the way
from decoding to the joins by so many seconds."""

MOST_STRAIN_SECONDS = 5.0
STRAINED_SECONDS = 10.0
"""For how long the slowest question counts."""

CLOCK_SKEW_MS = 20
"""How far the clocks of broker and worker may be apart."""

UNCLAIMED_SECONDS = 30.0
"""A partition with an unread rest that no worker has begun to read is given up after this long.

That happens where restored state cannot be asked (:mod:`connectors.flink.internals.restored`):
Flink's last commit before a stop may be missing, and there is nothing to read where there seems to
be.
"""

STUCK_SECONDS = 15.0
"""A partition whose end is not reached while nothing moves, for longer than anything takes to
settle. Either a barrier waits behind a waiting event (a backlog arrived in the middle of the
stream): one event is let pass. Or, when that changes nothing, its last offsets are no records."""

MOST_QUESTIONS = 500
"""Questions whose answer is still awaited; beyond that the newest takes the place of the last."""

OVERTAKING_BARRIERS = {
    "execution.checkpointing.unaligned.enabled": "true",
    "execution.checkpointing.aligned-checkpoint-timeout": "0 s",
}
"""Flink's configuration where a function cannot wait in ``open`` (process mode opens it with its
first record): no join stops reading users and items because an event's barrier is held up. With any
time-out above zero it would until then, and what was decoded meanwhile would not settle."""


class OffsetStore(Protocol):
    """What this module needs of :class:`connectors.kafka.offsets_process.OffsetsProcess`."""

    def partitions(self, topics: Iterable[str]) -> tuple[Partition, ...]:
        """Every partition of the topics."""

    def ends(self, partitions: Iterable[Partition]) -> Offsets:
        """The offset that the next record of each partition will have."""

    def committed(self, group: str, partitions: Iterable[Partition]) -> Offsets:
        """What the group has committed; 0 where it has nothing."""

    def commit(self, group: str, offsets: Offsets) -> None:
        """Commit for a group without members."""


def dimension_topics(contracts: Contracts) -> list[str]:
    """The topics of users and items."""
    return [c.topic for role in (Role.USER, Role.ITEM) for c in contracts.with_role(role)]


def begin_anew(store: OffsetStore, topics: Iterable[str], source_group: str) -> None:
    """Forget what an application has committed in a former life: a new one has no state.

    Called at a submission, before the first worker starts.
    """
    store.commit(source_group, dict.fromkeys(store.partitions(topics), 0))


class WorkerClosing(Exception):
    """The job is being stopped or restarted while an event waits; the event will be read again."""


class _Read(NamedTuple):
    """How far a partition has been read, and when (monotonic) that will have settled."""

    settled: int
    pending: int
    pending_due: float
    latest: int
    latest_due: float


class Reading:
    """How far one decode function has read; it alone writes, the asking thread reads.

    A record has settled some time after it was decoded (``settling``), and later by as much as the
    joins need for what was decoded before it and may still be queued: after a backlog, seconds.
    Later still by ``strain`` seconds, on a machine that is too busy.
    """

    def __init__(self, settling: Settling) -> None:
        self.strain = 0.0
        self._settling = settling
        self._warm_at: float | None = None
        self._read: dict[Partition, _Read] = {}
        # When the joins have taken in everything decoded so far.
        self._joined_at = 0.0

    def decoded(self, partition: Partition, offset: int, now: float) -> None:
        """Note a record."""
        if self._warm_at is None:
            self._warm_at = now + COLD_SECONDS
        settle = self._settling.cold if now < self._warm_at else self._settling.warm
        self._joined_at = min(
            max(self._joined_at, now) + 1 / JOIN_RECORDS_PER_SECOND, now + LONGEST_QUEUE_SECONDS
        )
        former = self._read.get(partition)
        latest, due = offset + 1, self._joined_at + settle + self.strain
        if former is None:
            self._read[partition] = _Read(0, latest, due, latest, due)
            return
        due = max(due, former.latest_due)
        if now >= former.pending_due:
            self._read[partition] = _Read(former.pending, latest, due, latest, due)
        else:
            self._read[partition] = former._replace(latest=latest, latest_due=due)

    def restored(self, positions: Offsets) -> None:
        """Note up to where everything is in the state that the function goes on from."""
        for partition, offset in positions.items():
            self._read[partition] = _Read(offset, offset, 0.0, offset, 0.0)

    def claims(self, now: float) -> dict[Partition, int]:
        """Up to which offset everything has settled, by partition; 0: begun, nothing settled."""
        return {partition: _settled(read, now) for partition, read in tuple(self._read.items())}


def _settled(read: _Read, now: float) -> int:
    if now >= read.latest_due:
        return read.latest
    if now >= read.pending_due:
        return read.pending
    return read.settled


class Freshness:
    """What one worker knows of how far users and items have been read, by all workers.

    ``group`` keeps the workers' claims, ``source_group`` is the one that Flink's sources commit to
    with each checkpoint: about where a restored job goes on. ``exact``: the workers know where
    (:mod:`connectors.flink.internals.restored`) and claim it, so what Flink has committed does not
    count.
    """

    def __init__(
        self,
        store: OffsetStore,
        topics: Iterable[str],
        *,
        group: str,
        source_group: str,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.fresh_until_ms = 0
        self.exact = False
        self._store = store
        self._topics = tuple(topics)
        self._group = group
        self._source_group = source_group
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._readings: weakref.WeakSet[Reading] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._partitions: tuple[Partition, ...] = ()
        self._base: dict[Partition, int] = {}
        self._asked: deque[tuple[int, Offsets]] = deque()
        self._moved: dict[Partition, tuple[int, float]] = {}
        self._given_up: dict[Partition, int] = {}
        self._nudged: set[Partition] = set()
        self._nudges = 0
        self._closings = 0
        self._waiting = 0
        self._question_at: float | None = None
        self._strain = 0.0
        self._strained_at = 0.0

    def start(self) -> None:
        """Forget the claims of a former attempt; every function calls it when it opens.

        A worker that has read on already claims its own again with its next question.
        """
        with self._lock:
            self.fresh_until_ms = 0
            self._partitions = self._store.partitions(self._topics)
            self._base = self._restored_positions()
            self._asked.clear()
            self._moved.clear()
            self._given_up.clear()
            self._nudged.clear()
            self._store.commit(self._group, dict.fromkeys(self._partitions, 0))

    def rested(self) -> None:
        """Nobody has asked for a while: that says nothing of how busy the machine is."""
        with self._lock:
            self._question_at = None

    def follow(self, reading: Reading) -> None:
        """Take a decode function's reading into account for as long as the function lives."""
        with self._lock:
            reading.strain = self._strain
            self._readings.add(reading)

    def forget(self, reading: Reading) -> None:
        """Drop the claims of a function that closes, and wake who would wait for them in vain."""
        with self._lock:
            if reading not in self._readings:
                return
            self._readings.discard(reading)
        with self._changed:
            self._closings += 1
            self._changed.notify_all()

    def ask(self) -> None:
        """One question to Kafka; moves ``fresh_until_ms`` on to the newest one whose answer, the
        ends at that time, has been read."""
        with self._lock:
            asked_ms, now = self._wall_ms(), self._monotonic()
            self._feel(now)
            ends = self._store.ends(self._partitions)
            if len(self._asked) == MOST_QUESTIONS:
                self._asked.pop()
            self._asked.append((asked_ms, ends))
            positions = self._positions(ends, now)
            while self._asked and all(positions[p] >= end for p, end in self._asked[0][1].items()):
                self.fresh_until_ms = self._asked.popleft()[0] - CLOCK_SKEW_MS
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, timestamp_ms: int) -> None:
        """Block until an event published at that moment may pass.

        Raises WorkerClosing when a function of users or items closes meanwhile: the whole job is
        ending, and a thread that waits would keep it from that.
        """
        with self._changed:
            closings, nudges = self._closings, self._nudges
            self._waiting += 1
            try:
                while self.fresh_until_ms < timestamp_ms and self._nudges == nudges:
                    if self._closings != closings:
                        raise WorkerClosing("users and items are no longer read by this worker")
                    self._changed.wait(1.0)
            finally:
                self._waiting -= 1

    @property
    def given_up(self) -> int:
        """How many partitions have an unread rest that is not waited for any longer."""
        return len(self._given_up)

    @property
    def someone_waits(self) -> bool:
        """Whether an event is being held at this moment."""
        with self._changed:
            return self._waiting > 0

    def _restored_positions(self) -> dict[Partition, int]:
        if self.exact:
            return {}
        return dict(self._store.committed(self._source_group, self._partitions))

    def _feel(self, now: float) -> None:
        """How much slower than on a machine at ease the questions have become."""
        before, self._question_at = self._question_at, now
        if before is None:
            return
        late = now - before - INTERVAL_SECONDS - EASY_SECONDS
        strain = min(max(0.0, late) * STRAIN, MOST_STRAIN_SECONDS)
        if strain >= self._strain or now - self._strained_at > STRAINED_SECONDS:
            self._strain, self._strained_at = strain, now
            for reading in self._readings:
                reading.strain = strain

    def _own_claims(self, now: float) -> dict[Partition, int]:
        result: dict[Partition, int] = {}
        for reading in self._readings:
            result.update(reading.claims(now))
        return result

    def _positions(self, ends: Offsets, now: float) -> dict[Partition, int]:
        """Up to where each partition has been read, or is not waited for."""
        claims = dict(self._store.committed(self._group, self._partitions))
        own = self._own_claims(now)
        news = {p: offset for p, offset in own.items() if offset > claims.get(p, 0)}
        if news:
            self._store.commit(self._group, news)
            claims.update(news)
        begun = {p for p in self._partitions if claims.get(p, 0) > 0 or p in own}
        if any(p not in begun and self._base.get(p, 0) < ends[p] for p in self._partitions):
            # A checkpoint since the start tells where a restored job has gone on.
            for partition, offset in self._restored_positions().items():
                self._base[partition] = max(self._base.get(partition, 0), offset)
        positions = {}
        for partition in self._partitions:
            # A partition that nobody has begun to read stands where the restored job goes on.
            source = claims if partition in begun else self._base
            position = max(source.get(partition, 0), self._given_up.get(partition, 0))
            if position < ends[partition]:
                position = self._unread(partition, position, ends[partition], begun, now)
            else:
                self._moved.pop(partition, None)
            positions[partition] = position
        return positions

    def _unread(
        self, partition: Partition, position: int, end: int, begun: Set[Partition], now: float
    ) -> int:
        """The position of a partition that is not at its end, or the end when it is given up."""
        former = self._moved.get(partition)
        if former is None or former[0] != position:
            self._moved[partition] = (position, now)
            self._nudged.discard(partition)
            return position
        if now - former[1] < (STUCK_SECONDS if partition in begun else UNCLAIMED_SECONDS):
            return position
        self._moved[partition] = (position, now)
        if partition in begun and partition not in self._nudged:
            self._nudged.add(partition)
            with self._changed:
                self._nudges += 1
                self._changed.notify_all()
            return position
        self._given_up[partition] = end
        return end


class Watch:
    """A thread that keeps asking, as long as a function of the worker is open."""

    def __init__(self, freshness: Freshness) -> None:
        self.freshness = freshness
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def opened(self, function: object) -> None:
        """Begin to ask, if nobody has yet; the function's process is in a new attempt."""
        self.freshness.start()
        with self._lock:
            self._users.add(function)
            if self._thread is None or not self._thread.is_alive():
                self.freshness.rested()
                self._thread = threading.Thread(target=self._run, name="freshness", daemon=True)
                self._thread.start()

    def closed(self, function: object) -> None:
        """The thread ends when the last function has closed."""
        with self._lock:
            self._users.discard(function)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not len(self._users):
                    self._thread = None
                    return
            try:
                self.freshness.ask()
            except OffsetsUnavailable:
                # Events wait meanwhile, and Flink's own sources have the same trouble.
                time.sleep(1.0)
            time.sleep(INTERVAL_SECONDS)
