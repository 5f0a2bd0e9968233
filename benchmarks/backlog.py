"""Delivers a backlog through the sink engine, as the job does, and measures the time."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from benchmarks.errors import BenchmarkError
from connectors.delivery import DeliveryEngine, Destination, Settled

CALLERS = 16
"""Buckets of the job, each of which delivers one micro-batch at a time."""

MICRO_BATCH = 100


def deliver(
    destination: Destination[Any, Any],
    records: Sequence[Any],
    *,
    warm_up: Sequence[Any] = (),
    micro_batch: int = MICRO_BATCH,
    callers: int = CALLERS,
) -> tuple[list[Settled], float, dict[str, float]]:
    """Return the outcomes in order, the seconds, and the engine's metrics.

    The seconds are from the first hand-over to the last outcome. The records of ``warm_up`` are
    delivered before, unmeasured: they open connections and read credentials.
    """
    batches = iter(range(0, len(records), micro_batch))
    outcomes: dict[int, list[Settled]] = {}

    async def hand_over(engine: DeliveryEngine[Any, Any]) -> None:
        for first in batches:  # the callers share the iterator
            outcomes[first] = await engine.deliver(records[first : first + micro_batch])

    async def main() -> tuple[float, dict[str, float]]:
        async with DeliveryEngine(destination, random=Random(1)) as engine:
            await engine.deliver(warm_up)
            started, cpu = time.monotonic(), time.process_time()
            await asyncio.gather(*(hand_over(engine) for _ in range(callers)))
            seconds = time.monotonic() - started
            metrics = engine.snapshot()
            metrics["cpu_seconds"] = round(time.process_time() - cpu, 2)
            return seconds, metrics

    with exclude_from_gc():
        seconds, metrics = asyncio.run(main())
    return [outcome for first in sorted(outcomes) for outcome in outcomes[first]], seconds, metrics


@contextmanager
def exclude_from_gc() -> Iterator[None]:
    """Exclude the existing objects from garbage collection: the backlog is not part of the code
    that is measured."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def require(condition: bool, problem: str) -> None:
    """Raise BenchmarkError with the problem unless the condition holds."""
    if not condition:
        raise BenchmarkError(problem)


def show(name: str, result: Mapping[str, Any]) -> None:
    """Print a result in one line."""
    values = ", ".join(f"{key} {value:,}" for key, value in result.items())
    print(f"{name}: {values}", flush=True)
