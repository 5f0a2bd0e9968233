"""The sink engine as a state machine against a simple model, in virtual time: whatever happens,
nothing is lost and nothing is invented.

Callers hand over records, give up, and time passes, while the destination changes its mood; a
failing run is printed as the steps that lead to it, with a blob that replays it. The model knows
nothing of lanes, batches or retries: a record is bad or good, and where records replace each other
a good one may be superseded by a newer one that was accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connectors.delivery import (
    Delivered,
    DeliveryEngine,
    DeliverySettings,
    Limits,
    Outcome,
    Rejected,
    Retry,
    Settled,
    Superseded,
    Version,
)
from connectors.delivery.outcomes import DELIVERED
from tests.support.delivery_fakes import (
    VIRTUAL_CLOCK,
    FakeRecord,
    ScriptedDestination,
    VirtualTimeLoop,
    hang,
)

Mood = Literal["well", "throttling", "failing", "hanging", "down"]

BAD, OVERSIZE, LARGEST = 13, 101, 100
"""Sizes: of records that the service refuses, that are never sent, and the largest."""

KEYS = ("a", "b", "c", None)
CALL_TIMEOUT = 1.0


class Replacing(ScriptedDestination):
    """Letters of one key replace each other, by the version that the test has given them."""

    versions: dict[int, Version]
    look: Callable[[Sequence[FakeRecord]], None]

    def version(self, entry: FakeRecord) -> Version:
        return self.versions[entry.number]

    async def send(self, batch: Sequence[FakeRecord]) -> Sequence[Outcome]:
        self.look(batch)
        return await super().send(batch)


@dataclass
class Caller:
    """One `deliver()`: what it was given, and what became of it."""

    records: tuple[FakeRecord, ...]
    task: asyncio.Task[list[Settled]]
    gave_up: bool = False


@dataclass
class World:
    """What the test has done so far."""

    callers: list[Caller] = field(default_factory=list)
    versions: dict[int, Version] = field(default_factory=dict)
    mood: Mood = "well"

    def fake_records(self) -> list[FakeRecord]:
        return [record for caller in self.callers for record in caller.records]


DRAFTS = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.integers(0, 9),
        st.sampled_from([1, 1, 1, 1, 10, 40, LARGEST, BAD, OVERSIZE]),
        st.sampled_from(["one", "two"]),
    ),
    min_size=1,
    max_size=12,
)


class Delivery(RuleBasedStateMachine):
    """The engine on an event loop whose clock the rules move."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)

    @initialize(
        replaces=st.booleans(),
        partial=st.booleans(),
        one_per_key=st.booleans(),
        groups=st.sampled_from(["one for all", "one a key", "two for each key"]),
        max_records=st.integers(1, 5),
        max_in_flight=st.integers(1, 4),
        rate=st.sampled_from([10.0, 200.0]),
        byte_rate=st.sampled_from([None, None, 60, 150, 1_000]),
        max_buffered=st.sampled_from([5, 10_000]),
        seed=st.integers(0, 2**16),
    )
    def begin(
        self,
        replaces: bool,
        partial: bool,
        one_per_key: bool,
        groups: str,
        max_records: int,
        max_in_flight: int,
        rate: float,
        byte_rate: int | None,
        max_buffered: int,
        seed: int,
    ) -> None:
        self.replaces, self.partial, self.groups, self.rate = replaces, partial, groups, rate
        self.max_buffered, self.byte_rate = max_buffered, byte_rate
        self.random = Random(seed)
        kind = Replacing if replaces else ScriptedDestination
        # The destination itself checks limits and batch keys on each call.
        self.destination = kind(
            self._answer,
            latency=0.02,
            limits=Limits(
                max_records=max_records,
                max_bytes=200,
                max_record_bytes=LARGEST,
                max_in_flight=max_in_flight,
                calls_per_second=rate,
                bytes_per_second=byte_rate,
                # Needed where a call can succeed in part, allowed elsewhere.
                one_per_order_key=partial or one_per_key,
            ),
        )
        if isinstance(self.destination, Replacing):
            self.destination.versions = self.world.versions
            self.destination.look = self._look
        self.runner.run(self._open(seed))

    async def _open(self, seed: int) -> None:
        self.engine: DeliveryEngine[FakeRecord, FakeRecord] = DeliveryEngine(
            self.destination,
            random=Random(seed),
            clock=VIRTUAL_CLOCK,
            settings=DeliverySettings(
                backoff_cap=1.0, call_timeout=CALL_TIMEOUT, max_buffered=self.max_buffered
            ),
        )

    # --- what can happen --------------------------------------------------------------------------

    @rule(drafts=DRAFTS)
    def hand_over(self, drafts: list[tuple[str | None, int, int, str]]) -> None:
        """A caller comes; its records are numbered in the order of their arrival."""
        first = len(self.world.fake_records())
        records = tuple(
            FakeRecord(key, first + n, size, self._group(key, group))
            for n, (key, _, size, group) in enumerate(drafts)
        )
        for record, draft in zip(records, drafts, strict=True):
            self.world.versions[record.number] = (draft[1],)

        async def deliver() -> Caller:
            task = asyncio.ensure_future(self.engine.deliver(records))
            await asyncio.sleep(0)
            return Caller(records, task)

        self.world.callers.append(self.runner.run(deliver()))

    @rule(seconds=st.sampled_from([0.001, 0.03, 0.2, 1.5]))
    def wait(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule(mood=st.sampled_from(["well", "throttling", "failing", "hanging", "down"]))
    def change_mood(self, mood: Mood) -> None:
        self.world.mood = mood

    @precondition(lambda self: any(not one.task.done() for one in self.world.callers))
    @rule(which=st.integers(0, 5))
    def give_up(self, which: int) -> None:
        """One that still waits is cancelled."""
        waiting = [one for one in self.world.callers if not one.task.done()]
        caller = waiting[which % len(waiting)]
        caller.gave_up = True
        caller.task.cancel()
        self.runner.run(asyncio.sleep(0.001))

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "engine"):
            return
        state = self.runner.run(self._snapshot())
        limits = self.destination.limits
        # What was under way and has to be sent again goes back to the buffer, full or not.
        returned = limits.max_records * limits.max_in_flight
        assert state["waiting"] <= self.max_buffered + returned
        assert state["in_flight"] <= limits.max_in_flight
        assert state["rate_limit"] <= self.rate
        assert len(self.destination.accepted) == len(set(self.destination.accepted))

    async def _snapshot(self) -> dict[str, float]:
        return self.engine.snapshot()

    def teardown(self) -> None:
        """The destination gets well, and everything comes to its end; then the model decides."""
        try:
            if hasattr(self, "engine"):
                self.world.mood = "well"
                self.runner.run(self._finish())
                self._check()
        finally:
            self.runner.close()

    async def _finish(self) -> None:
        await self.engine.drain()
        await asyncio.sleep(5)  # back-offs of those that gave up
        state = self.engine.snapshot()
        assert (state["waiting"], state["in_flight"], state["oldest_age"]) == (0, 0, 0)
        assert not any(n for name, n in self.engine.held().items() if name != "versions")
        counted = sum(state[n] for n in ("delivered", "rejected", "superseded", "abandoned"))
        assert counted == len(self.world.fake_records())
        await self.engine.close()

    def _check(self) -> None:
        accepted = self.destination.accepted
        position = {record: place for place, record in enumerate(accepted)}
        assert set(accepted) <= {one for one in self.world.fake_records() if self._is_good(one)}
        for caller in self.world.callers:
            if caller.task.cancelled():
                assert caller.gave_up
                continue
            for record, outcome in zip(caller.records, caller.task.result(), strict=True):
                if isinstance(outcome, Rejected):
                    assert not self._is_good(record)
                elif isinstance(outcome, Delivered):
                    assert record in position
                else:
                    assert isinstance(outcome, Superseded)
                    assert self.replaces
                    assert self._is_good(record) or record.size == BAD
                    assert any(self._replaces(newer, record) for newer in accepted)
        for key in {*KEYS} - {None}:
            of_key = [record for record in accepted if record.key == key]
            ranks = [self._rank(record) for record in of_key]
            assert ranks == sorted(ranks)
        starts = [sent.started for sent in self.destination.sent]
        for start in starts:
            assert sum(start <= other < start + 1.0 for other in starts) <= self.rate
        if self.byte_rate is not None:
            self._check_bytes(self.byte_rate)

    def _check_bytes(self, most: int) -> None:
        """No second has more of them, unless it is a single record that alone is larger."""
        for start in (sent.started for sent in self.destination.sent):
            second = [s for s in self.destination.sent if start <= s.started < start + 1.0]
            records = [record for sent in second for record in sent.records]
            assert sum(record.size for record in records) <= most or len(records) == 1

    # --- the model --------------------------------------------------------------------------------

    def _group(self, key: str | None, drawn: str) -> str | None:
        """What a record shares calls with; a key of two groups changes between them."""
        return {"one for all": "all", "one a key": key}.get(self.groups, drawn)

    def _is_good(self, record: FakeRecord) -> bool:
        return record.size not in (BAD, OVERSIZE)

    def _rank(self, record: FakeRecord) -> tuple[Any, ...]:
        """What the order of a key goes by: its version, where there are some, and its arrival."""
        version = self.world.versions[record.number] if self.replaces else ()
        # With a full buffer callers are let in by turns, in an order that the model does not know.
        return (version, record.number if self.max_buffered >= 10_000 else 0)

    def _look(self, batch: Sequence[FakeRecord]) -> None:
        """Nothing is sent that a good newer record of its key, waiting or accepted, replaces."""
        if self.max_buffered < 10_000:
            return  # the newer one may not have been let in yet
        for caller in self.world.callers:
            for record in caller.records if not caller.gave_up else ():
                if self._is_good(record):
                    assert not any(
                        self._replaces(record, older) for older in batch if older != record
                    )

    def _replaces(self, newer: FakeRecord, older: FakeRecord) -> bool:
        same_key = newer.key is not None and newer.key == older.key
        return same_key and self._rank(newer) >= self._rank(older)

    def _answer(
        self, batch: Sequence[FakeRecord], _call: int
    ) -> Sequence[Outcome] | Outcome | Awaitable[Outcome]:
        match self.world.mood:
            case "hanging":
                return hang()
            case "down":
                return Retry(reason="down")
            case "throttling" if self.random.random() < 0.5:
                return Retry(throttled=True, after=self.random.choice([None, 0.3]))
        failing = 0.5 if self.world.mood == "failing" else 0.0
        if self.partial:
            return [
                Retry(reason="failing")
                if self.random.random() < failing
                else (Rejected("Bad", "it is") if record.size == BAD else DELIVERED)
                for record in batch
            ]
        if self.random.random() < failing:
            return Retry(reason="failing")
        refused = any(record.size == BAD for record in batch)
        return Rejected("Bad", "one is", whole_call=True) if refused else DELIVERED


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(
    max_examples=150,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
