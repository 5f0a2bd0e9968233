"""How long to wait before a retry."""

from __future__ import annotations

from random import Random


def full_jitter(attempt: int, base: float, cap: float, random: Random) -> float:
    """A wait in seconds, drawn evenly from 0 to min(cap, base x 2^(attempt - 1)).

    `attempt` is the number of failed sends so far, from 1. Drawn from the whole range, because
    callers that failed together must not retry together ("full jitter" in the AWS Architecture
    Blog, "Exponential Backoff And Jitter").
    """
    # The exponent is bounded only to keep the float finite: there is no last attempt.
    return random.uniform(0.0, min(cap, base * 2.0 ** min(attempt - 1, 60)))
