"""The freshness watermark: all users and items published until then have been read.

The exact part of freshness: offsets, and the time at which Kafka was asked for them; no clock, no
estimate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set

from connectors.kafka.offsets import Offsets, Partition

MAX_PENDING_POLLS = 500
"""Polls whose ends have not been read yet; beyond that the newest replaces the last."""

CLOCK_SKEW_MS = 20
"""How far the clocks of broker and worker may be apart."""


class FreshnessWatermark:
    """The publication time up to which every dimension record has been read.

    A poll asks for the ends of all partitions. Once they have been read, so has every record
    published before the poll.
    """

    def __init__(self) -> None:
        self.until_ms = 0
        self._polls: deque[tuple[int, Offsets]] = deque()

    def reset(self) -> None:
        """Return to the beginning: nothing has been read."""
        self.until_ms = 0
        self._polls.clear()

    def add_poll(self, polled_ms: int, ends: Offsets) -> None:
        """Note the ends of all partitions, asked for at a time not before the previous poll's."""
        if len(self._polls) == MAX_PENDING_POLLS:
            self._polls.pop()
        self._polls.append((polled_ms, ends))

    def advance(self, positions: Offsets) -> None:
        """Move to the newest poll whose ends are not beyond the positions, and those before it.

        A partition that does not exist any more has no position and is not waited for.
        """
        while self._polls and all(
            positions.get(partition, end) >= end for partition, end in self._polls[0][1].items()
        ):
            self.until_ms = self._polls.popleft()[0] - CLOCK_SKEW_MS


def started_partitions(shared: Offsets, own: Offsets) -> Set[Partition]:
    """Return the partitions that a worker has begun to read.

    ``shared`` are the positions that all workers have committed (0: none), ``own`` those of this
    worker, 0 for a partition of which nothing has settled yet.
    """
    return {partition for partition, offset in shared.items() if offset > 0} | set(own)


def read_positions(
    partitions: Iterable[Partition], started: Set[Partition], shared: Offsets, restored: Offsets
) -> Mapping[Partition, int]:
    """Return up to which offset each partition has been read by any worker.

    A partition that no worker has begun to read is where the restored job resumes.
    """
    return {
        partition: (shared if partition in started else restored).get(partition, 0)
        for partition in partitions
    }
