"""When a record that was decoded is in the joins' state: an estimate.

The heuristic part of freshness. SQL has no way to send a marker behind a record through both joins
and back, so the time that a record needs is estimated from the load: how fast records are decoded,
how long ago the function started, and how overloaded the machine is. All times are seconds, all
points in time monotonic.
"""

from __future__ import annotations

from typing import NamedTuple

from connectors.kafka.offsets import Offsets, Partition


class SettlingTimes(NamedTuple):
    """Seconds from decoding a user or item to its certain presence in the joins' state."""

    cold: float
    """In a function's first COLD_SECONDS: everything behind it is still starting."""

    warm: float


THREAD_SETTLING = SettlingTimes(cold=1.0, warm=0.25)
"""Two of Flink's network buffers on the way, each flushed every 100 ms."""

BUNDLE_SETTLING = SettlingTimes(cold=5.0, warm=1.5)
"""In process mode, where a record leaves Python with its bundle, up to a second later."""

COLD_SECONDS = 20.0
"""From the first record that a function decodes."""

MIN_JOIN_RECORDS_PER_SECOND = 5_000
"""What the joins take in at the least, for each decode function; faster reading queues up before
them, and what is queued needs that much longer to settle."""

MAX_QUEUE_SECONDS = 5.0
"""Flink's network buffers hold no more than the joins take in within this."""

NORMAL_LATENCY_SECONDS = 0.1
"""A poll takes less than this beyond its interval where the machine is not overloaded."""

OVERLOAD_FACTOR = 4.0
"""A poll that is later by a second, on its thread and at the broker, is taken to delay a record
between decoding and the joins by so many seconds."""

MAX_OVERLOAD_SECONDS = 5.0
OVERLOAD_MEMORY_SECONDS = 1.0
"""For how long beyond its own overload a slow poll counts: until what was decoded before it has
settled."""


class OverloadMeter:
    """Measures the overload of the machine by how late the polls for offsets are.

    ``seconds`` is by how much longer a record takes to settle. A slow poll counts until every
    record that was decoded before it has been given that time.
    """

    def __init__(self, interval: float) -> None:
        self.seconds = 0.0
        self._interval = interval
        self._polled_at: float | None = None
        self._measured_at = 0.0

    def pause(self) -> None:
        """Ignore the time until the next poll: nobody polled, which says nothing of the load."""
        self._polled_at = None

    def poll(self, now: float) -> None:
        """Note a poll."""
        previous, self._polled_at = self._polled_at, now
        if previous is None:
            return
        late = now - previous - self._interval - NORMAL_LATENCY_SECONDS
        seconds = min(max(0.0, late) * OVERLOAD_FACTOR, MAX_OVERLOAD_SECONDS)
        expired = now - self._measured_at > self.seconds + OVERLOAD_MEMORY_SECONDS
        if seconds >= self.seconds or expired:
            self.seconds, self._measured_at = seconds, now


class SettlingModel:
    """Estimates for one decode function when a record is in the joins' state.

    ``overload_seconds`` is what an overloaded machine adds (:class:`OverloadMeter`). It counts when
    a record is asked for, not when it is decoded: the machine may become slow between the two.
    """

    def __init__(self, times: SettlingTimes) -> None:
        self.overload_seconds = 0.0
        self._times = times
        self._warm_at: float | None = None
        # When the joins have taken in everything decoded so far.
        self._joined_at = 0.0

    def settles_at(self, now: float) -> float:
        """Return when a record that is decoded now has settled, where nothing is overloaded.

        Call it once for each record.
        """
        if self._warm_at is None:
            self._warm_at = now + COLD_SECONDS
        times = self._times
        self._joined_at = min(
            max(self._joined_at, now) + 1 / MIN_JOIN_RECORDS_PER_SECOND, now + MAX_QUEUE_SECONDS
        )
        settling = times.cold if now < self._warm_at else times.warm
        return self._joined_at + settling


class _Positions(NamedTuple):
    """How far a partition has been read, and when that has settled."""

    settled: int
    pending: int
    pending_due: float
    latest: int
    latest_due: float


class DimensionReader:
    """How far one decode function has read its partitions, and how much of that has settled.

    The function alone writes; the polling thread reads.
    """

    def __init__(self, model: SettlingModel) -> None:
        self.model = model
        self._positions: dict[Partition, _Positions] = {}

    def add_decoded(self, partition: Partition, offset: int, now: float) -> None:
        """Note a record that is decoded now."""
        latest, due = offset + 1, self.model.settles_at(now)
        former = self._positions.get(partition)
        if former is None or latest <= former.settled:  # else the topic was created anew
            self._positions[partition] = _Positions(0, latest, due, latest, due)
            return
        due = max(due, former.latest_due)
        if now - self.model.overload_seconds >= former.pending_due:
            self._positions[partition] = _Positions(former.pending, latest, due, latest, due)
        else:
            self._positions[partition] = former._replace(latest=latest, latest_due=due)

    def add_restored(self, positions: Offsets) -> None:
        """Note up to where everything is in the state that the function was restored from."""
        for partition, offset in positions.items():
            self._positions[partition] = _Positions(offset, offset, 0.0, offset, 0.0)

    def settled(self, now: float) -> dict[Partition, int]:
        """Return up to which offset each partition has settled; 0: nothing of what was read."""
        now -= self.model.overload_seconds
        return {
            partition: _settled(positions, now)
            for partition, positions in tuple(self._positions.items())
        }


def _settled(positions: _Positions, now: float) -> int:
    if now >= positions.latest_due:
        return positions.latest
    if now >= positions.pending_due:
        return positions.pending
    return positions.settled
