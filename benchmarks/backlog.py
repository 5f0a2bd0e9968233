"""A backlog handed to the sink engine as the job does it, timed from end to end."""

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

SIDE_BY_SIDE = 16
"""Buckets of the job, each with a micro-batch at a time."""

MICRO_BATCH = 100


def deliver(
    destination: Destination[Any, Any],
    records: Sequence[Any],
    *,
    before: Sequence[Any] = (),
    micro_batch: int = MICRO_BATCH,
    callers: int = SIDE_BY_SIDE,
) -> tuple[list[Settled], float, dict[str, float]]:
    """Outcomes in order, the seconds that it took, and the engine's metrics.

    Seconds are from the first hand-over to the last outcome. The records of `before` go first,
    unmeasured: they open connections and read credentials.
    """
    outcomes: list[Settled] = []
    batches = iter(range(0, len(records), micro_batch))
    found: dict[int, list[Settled]] = {}

    async def hand_over(engine: DeliveryEngine[Any, Any]) -> None:
        for at in batches:  # the callers share the iterator
            found[at] = await engine.deliver(records[at : at + micro_batch])

    async def main() -> tuple[float, dict[str, float]]:
        async with DeliveryEngine(destination, random=Random(1)) as engine:
            await engine.deliver(before)
            begun, cpu = time.monotonic(), time.process_time()
            await asyncio.gather(*(hand_over(engine) for _ in range(callers)))
            seconds = time.monotonic() - begun
            metrics = engine.snapshot()
            metrics["cpu_seconds"] = round(time.process_time() - cpu, 2)
            return seconds, metrics

    with out_of_sight_of_the_garbage_collector():
        seconds, metrics = asyncio.run(main())
    for at in sorted(found):
        outcomes += found[at]
    return outcomes, seconds, metrics


@contextmanager
def out_of_sight_of_the_garbage_collector() -> Iterator[None]:
    """The backlog is the benchmark's: it is not for those measured to walk through it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def demand(holds: bool, otherwise: str) -> None:
    """Raises BenchmarkError unless it holds: such a run has no figures."""
    if not holds:
        raise BenchmarkError(otherwise)


def say(name: str, figures: Mapping[str, Any]) -> None:
    """One line for a person who waits."""
    shown = ", ".join(f"{key} {value:,}" for key, value in figures.items())
    print(f"{name}: {shown}", flush=True)
