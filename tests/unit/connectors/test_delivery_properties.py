"""The sink engine against a simple model: whatever happens, nothing is lost and nothing is
invented.

A scenario is any number of callers that come and give up at any time, with any records, and a
destination that fails in every way that a destination can. A failing scenario is printed in full,
and the same one is found again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.delivery import (
    Delivered,
    DeliveryEngine,
    DeliverySettings,
    Limits,
    Outcome,
    Rejected,
    Retry,
)
from connectors.delivery.outcomes import DELIVERED
from connectors.delivery.rate import AdaptiveRate
from tests.support.delivery_fakes import VIRTUAL_CLOCK, FakeRecord, ScriptedDestination, hang, run

OVERSIZE = 101


@dataclass(frozen=True)
class Draft:
    """A record to be; its number is given when its caller hands it over."""

    key: str | None
    group: str
    size: int
    bad: bool


@dataclass(frozen=True)
class Caller:
    comes: float
    gives_up_after: float | None
    drafts: tuple[Draft, ...]


@dataclass(frozen=True)
class Scenario:
    """`answers_for_each` says whether the destination answers for each record or for whole
    calls."""

    callers: tuple[Caller, ...]
    limits: Limits
    answers_for_each: bool
    throttled: float
    failing: float
    hanging: float
    max_buffered: int
    seed: int


TIMES = st.floats(0, 3)

CALLERS = st.builds(
    Caller,
    comes=TIMES,
    gives_up_after=st.none() | st.floats(0.001, 3),
    drafts=st.lists(
        st.builds(
            Draft,
            key=st.sampled_from(["a", "b", "c", None]),
            group=st.sampled_from(["one", "two"]),
            size=st.sampled_from([1, 10, 40, 100, OVERSIZE]),
            bad=st.sampled_from([False] * 9 + [True]),
        ),
        max_size=40,
    ).map(tuple),
)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    answers_for_each = draw(st.booleans())
    return Scenario(
        callers=draw(st.lists(CALLERS, min_size=1, max_size=5).map(tuple)),
        limits=Limits(
            max_records=draw(st.integers(1, 12)),
            max_bytes=draw(st.integers(100, 400)),
            max_record_bytes=100,
            max_in_flight=draw(st.integers(1, 6)),
            calls_per_second=draw(st.sampled_from([20.0, 1_000.0])),
            # Needed where a call can succeed in part, allowed elsewhere.
            one_per_order_key=answers_for_each or draw(st.booleans()),
        ),
        answers_for_each=answers_for_each,
        throttled=draw(st.sampled_from([0.0, 0.3])),
        failing=draw(st.sampled_from([0.0, 0.1, 0.5])),
        hanging=draw(st.sampled_from([0.0, 0.0, 0.1])),
        max_buffered=draw(st.sampled_from([1, 10, 1_000])),
        seed=draw(st.integers(0, 2**32)),
    )


def destination_of(scenario: Scenario, bad: set[int]) -> ScriptedDestination:
    random = Random(scenario.seed)

    def passing() -> Outcome | None:
        if random.random() < scenario.throttled:
            return Retry(throttled=True, after=random.choice([None, 0.5]))
        if random.random() < scenario.failing:
            return Retry(reason="passing")
        return None

    def script(batch: Sequence[FakeRecord], _call: int) -> Sequence[Outcome] | Awaitable[Outcome]:
        if random.random() < scenario.hanging:
            return hang()
        if scenario.answers_for_each:
            return [
                passing() or (Rejected("Bad", "it is") if one.number in bad else DELIVERED)
                for one in batch
            ]
        whole = passing()
        if whole is None:
            refused = any(one.number in bad for one in batch)
            whole = Rejected("Bad", "one is", whole_call=True) if refused else DELIVERED
        return [whole] * len(batch)

    return ScriptedDestination(script, latency=0.02, limits=scenario.limits)


@settings(
    max_examples=250,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scenarios())
def test_nothing_is_lost_invented_reordered_or_out_of_bounds(scenario: Scenario) -> None:
    """Outcomes are those of the model; each good record is accepted once, in the order of its key.

    The model: a record is rejected if it is bad or too large, else delivered, whatever else
    happens. A caller that gives up learns nothing, and its records are accepted at most once. (In
    flight, batch keys, counts and bytes are checked on each call by the scripted destination.)
    """
    bad: set[int] = set()
    handed_over: list[FakeRecord] = []
    expected: set[FakeRecord] = set()
    optional: set[FakeRecord] = set()

    async def call(engine: DeliveryEngine[FakeRecord, FakeRecord], caller: Caller) -> None:
        await asyncio.sleep(caller.comes)
        mine = []
        for draft in caller.drafts:
            record = FakeRecord(draft.key, len(handed_over), draft.size, draft.group)
            handed_over.append(record)
            mine.append(record)
            if draft.bad:
                bad.add(record.number)
        good = {one for one in mine if one.number not in bad and one.size < OVERSIZE}
        try:
            # Not wait_for: it makes a task in Python 3.11, which would hand over a turn later.
            async with asyncio.timeout(caller.gives_up_after):
                outcomes = await engine.deliver(mine)
        except TimeoutError:
            optional.update(good)
            return
        expected.update(good)
        assert [type(one) for one in outcomes] == [
            Delivered if record in good else Rejected for record in mine
        ]

    async def main() -> ScriptedDestination:
        destination = destination_of(scenario, bad)
        engine: DeliveryEngine[FakeRecord, FakeRecord] = DeliveryEngine(
            destination,
            random=Random(scenario.seed),
            clock=VIRTUAL_CLOCK,
            settings=DeliverySettings(
                call_timeout=1.0, backoff_cap=1.0, max_buffered=scenario.max_buffered
            ),
        )
        async with engine:
            await asyncio.gather(*(call(engine, caller) for caller in scenario.callers))
            await asyncio.sleep(5)
            state = engine.snapshot()
            assert (state["waiting"], state["in_flight"], state["oldest_age"]) == (0, 0, 0)
            assert not any(engine.held().values())
            assert state["delivered"] + state["rejected"] + state["abandoned"] == len(handed_over)
        return destination

    destination = run(main())
    accepted = destination.accepted
    assert len(accepted) == len(set(accepted))
    assert expected <= set(accepted) <= expected | optional
    # With a full buffer callers are let in by turns, so that only each one's own order is defined.
    if scenario.max_buffered >= len(handed_over):
        for key in {one.key for one in handed_over} - {None}:
            numbers = [one.number for one in accepted if one.key == key]
            assert numbers == sorted(numbers)
    rate = scenario.limits.calls_per_second
    starts = [sent.started for sent in destination.sent]
    for start in starts[:50]:
        assert sum(start <= other < start + 0.5 for other in starts) <= rate * 0.6 + 2


@settings(max_examples=300, derandomize=True, database=None)
@given(
    ceiling=st.floats(0.5, 5_000),
    floor=st.floats(0.1, 100),
    burst=st.floats(0.001, 2),
    steps=st.lists(
        st.tuples(st.floats(0, 2), st.sampled_from(["call", "throttled", "stale"])), max_size=80
    ),
)
def test_the_rate_keeps_its_bounds(
    ceiling: float, floor: float, burst: float, steps: list[tuple[float, str]]
) -> None:
    """Between floor and ceiling always; no more calls than rate and burst allow, nor in a second
    more than the most."""
    most = ceil(ceiling)
    rate = AdaptiveRate(
        ceiling=ceiling,
        floor=floor,
        increase=ceiling / 5,
        max_per_second=most,
        burst=burst,
        now=0.0,
    )
    now, taken, halved_at = 0.0, [], -1.0
    for pause, step in steps:
        now += pause
        if step == "call":
            wait = rate.wait(now)
            assert wait >= 0
            now += wait
            assert rate.wait(now) < 1e-6
            rate.take(now)
            rate.note_sent(now)
            taken.append(now)
        elif step == "throttled":
            before = rate.rate(now)
            if rate.note_throttled(started_at=now, now=now):
                assert rate.rate(now) == max(min(floor, ceiling), before / 2)
                halved_at = now
            else:  # in a trial
                assert rate.rate(now) >= before
        elif halved_at >= 0:
            before = rate.rate(now)
            assert not rate.note_throttled(started_at=halved_at - 0.01, now=now)
            assert rate.rate(now) == before
        assert min(floor, ceiling) <= rate.rate(now) <= ceiling
    for index, start in enumerate(taken):
        for count, end in enumerate(taken[index:], start=1):
            assert count <= (end - start) * ceiling + 1.0 + ceiling * burst + 1.001
            assert count <= most or end - start >= 1.0
