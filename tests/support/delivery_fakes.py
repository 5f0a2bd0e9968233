"""Virtual time, and a destination whose answers a test scripts."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from connectors.clock import Clock
from connectors.delivery import (
    Delivered,
    DeliveryEngine,
    Destination,
    Fatal,
    Limits,
    Outcome,
    Rejected,
    Retry,
    Settled,
    Version,
)
from connectors.delivery.outcomes import DELIVERED

T = TypeVar("T")


class DeadlockError(Exception):
    """Every task waits, and no timer is set: a real program would hang here indefinitely."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not ready:
            if timeout is None:
                raise DeadlockError
            self.now += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on which hours pass in no time, in the order in which they would."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


VIRTUAL_CLOCK = Clock(monotonic=lambda: asyncio.get_running_loop().time())
"""The clock of the event loop that runs; to be used on a VirtualTimeLoop."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def deliver_all(destination: Destination[Any, Any], *batches: Sequence[Any]) -> list[Settled]:
    """Delivers the batches one after the other through one engine; all outcomes, in order."""

    async def main() -> list[Settled]:
        async with DeliveryEngine(destination, random=Random(1), clock=VIRTUAL_CLOCK) as engine:
            return [outcome for batch in batches for outcome in await engine.deliver(batch)]

    return run(main())


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """A record of the scripted destination: the `number`-th of its `key`."""

    key: str | None
    number: int
    size: int = 10
    group: Hashable = None
    """What may share a call; None: the key."""


@dataclass(slots=True)
class Sent:
    """A call as the destination saw it. `ended` is None when it was cancelled."""

    started: float
    records: tuple[FakeRecord, ...]
    outcomes: tuple[Outcome, ...] = ()
    ended: float | None = None


Answer = Sequence[Outcome] | Outcome
Script = Callable[[Sequence[FakeRecord], int], Answer | Awaitable[Answer]]


def accept(_batch: Sequence[FakeRecord], _call: int) -> Outcome:
    return DELIVERED


@dataclass
class ScriptedDestination:
    """Answers each call as `script(batch, number of the call from 0)` says, after `latency`
    seconds.

    The script gives one outcome for all, or one for each record, or an awaitable of either. Checks
    on every call what the engine may never do: exceed a limit, mix batch keys.
    """

    script: Script = accept
    latency: float = 0.02
    limits: Limits = field(
        default_factory=lambda: Limits(
            max_records=10,
            max_bytes=1_000,
            max_record_bytes=500,
            max_in_flight=8,
            calls_per_second=1_000.0,
        )
    )
    name: str = "the scripted destination"
    sent: list[Sent] = field(default_factory=list)
    accepted: list[FakeRecord] = field(default_factory=list)
    in_flight: int = 0
    peak_in_flight: int = 0
    closed: bool = False

    def prepare(self, record: FakeRecord) -> FakeRecord | Rejected:
        return record

    def batch_key(self, entry: FakeRecord) -> Hashable:
        return entry.key if entry.group is None else entry.group

    def order_key(self, entry: FakeRecord) -> Hashable | None:
        return entry.key

    def size(self, entry: FakeRecord) -> int:
        return entry.size

    async def send(self, batch: Sequence[FakeRecord]) -> Sequence[Outcome]:
        assert not self.closed
        assert 1 <= len(batch) <= self.limits.max_records
        assert sum(record.size for record in batch) <= self.limits.max_bytes
        assert len({self.batch_key(record) for record in batch}) == 1
        if self.limits.one_per_order_key:
            keys = Counter(record.key for record in batch if record.key is not None)
            assert not keys or max(keys.values()) == 1
        loop = asyncio.get_running_loop()
        sent = Sent(loop.time(), tuple(batch))
        self.sent.append(sent)
        number = len(self.sent) - 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        assert self.in_flight <= self.limits.max_in_flight
        try:
            await asyncio.sleep(self.latency)
            answer = self.script(batch, number)
            if isinstance(answer, Awaitable):
                answer = await answer
        finally:
            self.in_flight -= 1
        outcomes = (
            [answer] * len(batch)
            if isinstance(answer, Delivered | Retry | Rejected | Fatal)
            else list(answer)
        )
        self.accepted += [
            record
            for record, outcome in zip(batch, outcomes, strict=False)
            if isinstance(outcome, Delivered)
        ]
        sent.outcomes, sent.ended = tuple(outcomes), loop.time()
        return outcomes

    async def close(self) -> None:
        self.closed = True


class ReplacingDestination(ScriptedDestination):
    """A record replaces those of its key that have a lower number."""

    def version(self, entry: FakeRecord) -> Version:
        return (entry.number,)


def fake_records(keys: int, each: int, **more: Any) -> list[FakeRecord]:
    """`each` records for each of `keys` keys, interleaved: a0 b0 c0 a1 b1 c1 ..."""
    return [
        FakeRecord(f"key-{key}", number, **more) for number in range(each) for key in range(keys)
    ]


def numbers_by_key(accepted: Sequence[FakeRecord]) -> dict[str | None, list[int]]:
    """The numbers of the accepted records of each key, in the order of their acceptance."""
    numbers: dict[str | None, list[int]] = {}
    for record in accepted:
        numbers.setdefault(record.key, []).append(record.number)
    return numbers


async def hang() -> Outcome:
    """An answer that never comes."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


def refuse_batches_with(bad: Callable[[FakeRecord], bool]) -> Script:
    """As PutEvents does: one bad record, and the call is refused without saying which it was."""

    def script(batch: Sequence[FakeRecord], _call: int) -> Outcome:
        if any(bad(record) for record in batch):
            return Rejected("Bad", "one of them is bad", whole_call=True)
        return DELIVERED

    return script


def first(times: int, outcome: Outcome) -> Script:
    """The first calls get this outcome, all later ones are accepted."""
    return lambda _batch, call: outcome if call < times else DELIVERED
