"""When not to wait any longer for a partition whose end is not reached.

A heuristic: a partition that does not move may have nothing left to read.
"""

from __future__ import annotations

from connectors.kafka.offsets import Partition

UNSTARTED_SECONDS = 30.0
"""A partition with an unread rest that no worker has begun to read is given up after this long.

That happens where restored state is not accessible (:mod:`connectors.flink.internals.restored`):
Flink's last commit before a stop may be missing, and there is nothing to read where there seems to
be.
"""

STALLED_SECONDS = 15.0
"""A partition whose end is not reached while nothing moves, for longer than anything takes to
settle. Either a barrier waits behind a waiting event (a backlog arrived in the middle of the
stream): one event is released. Or, when that changes nothing, its last offsets are no records."""


class Stalls:
    """Partitions with an unread rest that do not move."""

    def __init__(self) -> None:
        self.given_up: dict[Partition, int] = {}
        """Up to which offset a partition is not waited for."""
        self._moved: dict[Partition, tuple[int, float]] = {}
        self._released: set[Partition] = set()

    def reset(self) -> None:
        """Wait for every partition again."""
        self.given_up.clear()
        self._moved.clear()
        self._released.clear()

    def check(
        self, partition: Partition, position: int, end: int, *, is_started: bool, now: float
    ) -> tuple[int, bool]:
        """Return the position that counts, the end where the rest is given up, and whether one
        waiting event is to be released.

        ``is_started``: whether a worker has begun to read the partition. ``now`` is monotonic.
        """
        if self.given_up.get(partition, 0) > end:  # of a topic that was recreated
            del self.given_up[partition]
        position = max(position, self.given_up.get(partition, 0))
        if position >= end:
            self._moved.pop(partition, None)
            return position, False
        former = self._moved.get(partition)
        if former is None or former[0] != position:
            self._moved[partition] = (position, now)
            self._released.discard(partition)
            return position, False
        if now - former[1] < (STALLED_SECONDS if is_started else UNSTARTED_SECONDS):
            return position, False
        self._moved[partition] = (position, now)
        if is_started and partition not in self._released:
            self._released.add(partition)
            return position, True
        self.given_up[partition] = end
        return end, False
