"""Time, handed to what measures it or waits, so that a test runs in time of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Clock:
    """The machine's time, in seconds; a test replaces what the code under test uses of it.

    ``now`` counts from the epoch, ``monotonic`` only grows. ``sleep`` blocks the thread,
    ``pause`` only the coroutine.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


SYSTEM_CLOCK: Final = Clock()


def growing_waits(first: float, maximum: float, factor: float) -> Iterator[float]:
    """Seconds to wait before each further attempt, without an end."""
    wait = first
    while True:
        yield wait
        wait = min(maximum, wait * factor)


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
