"""Waiting for a condition, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_SECONDS = 150.0
"""For what takes a second on an idle machine."""

POLL_SECONDS = 0.05


def wait_until(
    is_reached: Callable[[], object],
    problem: str | Callable[[], str] = "the condition",
    seconds: float = LIMIT_SECONDS,
) -> float:
    """Return the seconds until the condition held; fail with the problem after the limit."""
    started = time.monotonic()
    while not is_reached():
        if time.monotonic() - started > seconds:
            text = problem if isinstance(problem, str) else problem()
            raise AssertionError(f"not within {seconds:g} s: {text}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started
