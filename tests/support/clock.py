"""Time that passes only while the code under test waits."""

from __future__ import annotations

from connectors.clock import Clock


class StoppedTime:
    """Seconds that only a sleep of ``clock`` moves; ``slept`` has each of these."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.slept: list[float] = []
        self.clock = Clock(now=self.now, monotonic=self.now, sleep=self.sleep)

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
