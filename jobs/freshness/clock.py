"""How far a worker's clock is apart from the brokers', which set the time of publication.

At the worker's time P the ends of the topics of events are asked for. An event at such an end or
later was appended after P, at the broker's time B, and arrived at the worker's time A. So the
worker's clock is ahead by at least P - B and at most A - B. Pure: no clock here.
"""

from __future__ import annotations

from typing import NamedTuple

from connectors.kafka.offsets import Offsets, Partition

WINDOW_SECONDS = 60.0
"""The bounds of one to two windows count: a clock that is corrected is noticed within that."""


MEASURE_SECONDS = 1.0
"""Between two measurements."""

MAX_CANDIDATES = 100
"""Events after the ends were asked for, among which one that was appended later is looked for."""


class _Bounds(NamedTuple):
    """By how many milliseconds the worker's clock is ahead: at least and at most."""

    lower: float = float("-inf")
    upper: float = float("inf")

    def narrowed(self, lower: float, upper: float) -> _Bounds:
        return _Bounds(max(self.lower, lower), min(self.upper, upper))


class WorkerClock:
    """The clock of a worker beside the brokers'.

    One thread notes ends, another one events. ``skew_ms`` is by how much the worker's clock is
    ahead at the least, negative where it is behind, and 0 where the clocks may be equal. Where
    brokers differ, the one of which the worker is ahead most counts. ``ahead_ms`` is the same
    without being behind. ``candidates``: how many of the next events are to be noted.
    """

    def __init__(self) -> None:
        self.skew_ms = self.ahead_ms = self.candidates = 0
        self._asked: tuple[int, Offsets] = (0, {})
        self._former = self._bounds = _Bounds()
        self._due = self._window_ends = 0.0

    def is_due(self, now: float) -> bool:
        """Whether to ask for the ends; ``now`` is monotonic."""
        return now >= self._due

    def add_ends(self, asked_ms: int, ends: Offsets, now: float) -> None:
        """Note the ends of the log, open transactions included, that were asked for at a time."""
        if now >= self._window_ends:
            self._former, self._bounds = self._bounds, _Bounds()
            self._window_ends = now + WINDOW_SECONDS
        lower, upper = self._bounds.narrowed(*self._former)
        self.skew_ms = int(lower) if lower > 0 else int(min(upper, 0))
        self.ahead_ms = max(0, self.skew_ms)
        self._due = now + MEASURE_SECONDS
        self._asked = (asked_ms, ends)
        self.candidates = MAX_CANDIDATES

    def add_event(
        self, partition: Partition, offset: int, timestamp_ms: int, arrived_ms: int
    ) -> None:
        """Note an event with its publication and its arrival."""
        self.candidates -= 1
        asked_ms, ends = self._asked
        if offset >= ends.get(partition, offset + 1):
            self.candidates = 0
            self._bounds = self._bounds.narrowed(asked_ms - timestamp_ms, arrived_ms - timestamp_ms)
