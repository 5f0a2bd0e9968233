"""The sink engine: what it promises, in virtual time against a scripted destination.

That nothing is lost, reordered or remembered whatever happens is in test_delivery_state_machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from connectors.delivery import (
    CATALOGUE,
    Delivered,
    DeliveryClosedError,
    DeliveryEngine,
    DeliverySettings,
    Fatal,
    FatalDeliveryError,
    Limits,
    Outcome,
    Rejected,
    Retry,
    Settled,
    Superseded,
)
from connectors.delivery.outcomes import DELIVERED
from connectors.delivery.rate import A_SECOND, AdaptiveRate, Window
from schemas.errors import SettingError
from tests.support.delivery_contract import (
    DestinationContract,
    ReplacingDestinationContract,
    Trouble,
)
from tests.support.delivery_fakes import (
    VIRTUAL_CLOCK,
    FakeRecord,
    ReplacingDestination,
    ScriptedDestination,
    fake_records,
    first,
    hang,
    numbers_by_key,
    refuse_batches_with,
    run,
)

Engine = DeliveryEngine[FakeRecord, FakeRecord]

THROTTLED = Retry(throttled=True, reason="too fast")


def engine_for(
    destination: ScriptedDestination, *, random: Random | None = None, **settings: Any
) -> Engine:
    return DeliveryEngine(
        destination,
        random=random or Random(1),
        clock=VIRTUAL_CLOCK,
        settings=DeliverySettings(**settings),
    )


def deliver(
    destination: ScriptedDestination, records: Sequence[FakeRecord], **settings: Any
) -> list[Settled]:
    async def main() -> list[Settled]:
        async with engine_for(destination, **settings) as engine:
            return await engine.deliver(records)

    return run(main())


def seconds_to_deliver(destination: ScriptedDestination, records: Sequence[FakeRecord]) -> float:
    async def main() -> float:
        async with engine_for(destination) as engine:
            await engine.deliver(records)
            return now()

    return run(main())


def serve_quota(
    quota: Callable[[], float],
) -> tuple[Callable[[Sequence[FakeRecord], int], Outcome], list[float]]:
    """A service that throttles calls above a quota, and the times at which it did."""
    tokens, then = 0.0, 0.0
    throttled_at: list[float] = []

    def service(*_: object) -> Outcome:
        nonlocal tokens, then
        tokens = min(quota(), tokens + (now() - then) * quota())
        then = now()
        if tokens < 1:
            throttled_at.append(now())
            return THROTTLED
        tokens -= 1
        return DELIVERED

    return service, throttled_at


def limits(**changed: Any) -> Limits:
    return replace(ScriptedDestination().limits, **changed)


def now() -> float:
    return asyncio.get_running_loop().time()


class MaxRandom(Random):
    """Always draws the largest value."""

    def uniform(self, a: float, b: float) -> float:
        return b


class ScriptedHarness:
    """The scripted destination as the contract suite wants it."""

    def __init__(
        self, kind: type[ScriptedDestination] = ScriptedDestination, group: str | None = None
    ) -> None:
        self.trouble: list[Trouble] = []
        self.scripted = kind(script=self._answer)
        self.destination = self.scripted
        self._group = group

    @property
    def peak_in_flight(self) -> int:
        return self.scripted.peak_in_flight

    @property
    def calls(self) -> int:
        return len(self.scripted.sent)

    def record(self, key: int, number: int) -> FakeRecord:
        return FakeRecord(str(key), number, group=self._group)

    def refused_record(self, key: int, number: int) -> FakeRecord:
        return FakeRecord(str(key), number, size=11, group=self._group)

    def oversize_record(self, key: int, number: int) -> FakeRecord:
        return FakeRecord(str(key), number, size=501, group=self._group)

    def accepted(self) -> list[tuple[int, int]]:
        return [(int(record.key or 0), record.number) for record in self.scripted.accepted]

    def fail_next(self, calls: int, trouble: Trouble) -> None:
        self.trouble = [trouble] * calls

    def _answer(self, batch: Sequence[FakeRecord], call: int) -> Outcome | Awaitable[Outcome]:
        if self.trouble:
            match self.trouble.pop():
                case "throttled":
                    return THROTTLED
                case "hanging":
                    return hang()
                case "fatal":
                    return Fatal("NoSuchTarget", "The target is missing. Create it.")
                case _:
                    return Retry(reason="passing")
        bad = refuse_batches_with(lambda record: record.size == 11)(batch, call)
        assert not isinstance(bad, Awaitable | Sequence)
        return bad


class TestContract(DestinationContract):
    make_harness = ScriptedHarness


class TestReplacingContract(ReplacingDestinationContract):
    make_harness = partial(ScriptedHarness, ReplacingDestination, group="all")


class TestOutcomes:
    def test_outcomes_are_in_the_order_of_the_records(self) -> None:
        """Whichever call ends first, a record's outcome is at the record's place."""
        records = fake_records(keys=5, each=3)
        bad = records[7]
        destination = ScriptedDestination(
            lambda batch, _: [Rejected("Bad", "no") if one == bad else DELIVERED for one in batch]
        )
        expected: list[Outcome] = [DELIVERED] * 15
        expected[7] = Rejected("Bad", "no")
        assert deliver(destination, records) == expected

    def test_no_records_need_no_call(self) -> None:
        """An empty micro-batch comes back at once."""
        destination = ScriptedDestination()
        assert deliver(destination, []) == []
        assert destination.sent == []

    def test_a_record_that_cannot_be_prepared_costs_only_itself(self) -> None:
        """An exception while converting a record rejects it, with the reason."""

        class Fussy(ScriptedDestination):
            def prepare(self, record: FakeRecord) -> FakeRecord | Rejected:
                if record.number == 1:
                    raise KeyError("title")
                return Rejected("Unfit", "never") if record.number == 2 else record

        outcomes = deliver(Fussy(), fake_records(keys=1, each=4))
        assert outcomes == [
            Delivered(),
            Rejected("UnusableRecord", "KeyError: 'title'"),
            Rejected("Unfit", "never"),
            Delivered(),
        ]

    @pytest.mark.parametrize("outcomes", [[], [DELIVERED], [DELIVERED] * 3])
    def test_a_wrong_number_of_outcomes_stops(self, outcomes: list[Outcome]) -> None:
        """A destination that cannot count would have its records mixed up."""
        with pytest.raises(FatalDeliveryError, match="outcomes for a batch of 2"):
            deliver(ScriptedDestination(lambda *_: outcomes), fake_records(keys=1, each=2))

    def test_an_exception_of_the_destination_stops(self) -> None:
        """A bug surfaces in every caller, with its cause; no caller waits indefinitely."""

        def broken(*_: object) -> Outcome:
            raise ZeroDivisionError("oops")

        with pytest.raises(FatalDeliveryError, match="ZeroDivisionError: oops") as caught:
            deliver(ScriptedDestination(broken), fake_records(keys=30, each=2))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    async def test_after_a_fatal_error_the_engine_can_be_used_again(self) -> None:
        """A restarted job in the same process delivers once the cause is removed."""
        destination = ScriptedDestination(first(1, Fatal("Gone", "Bring it back.")))
        async with engine_for(destination) as engine:
            with pytest.raises(FatalDeliveryError) as caught:
                await engine.deliver(fake_records(keys=40, each=1))
            assert (caught.value.code, caught.value.message) == ("Gone", "Bring it back.")
            assert str(caught.value) == (
                "Delivery to the scripted destination stopped (Gone): Bring it back."
            )
            assert await engine.deliver(fake_records(keys=40, each=1)) == [DELIVERED] * 40

    def test_partial_failures_are_repeated_by_index(self) -> None:
        """Where a service answers for each record, only the failed ones are sent again."""
        destination = ScriptedDestination(
            lambda batch, call: [
                Retry() if call == 0 and one.number % 2 else DELIVERED for one in batch
            ],
            limits=limits(one_per_order_key=True),
        )
        records = [FakeRecord(f"key-{n}", n, group="all") for n in range(10)]
        assert deliver(destination, records) == [DELIVERED] * 10
        assert [len(sent.records) for sent in destination.sent] == [10, 5]
        assert sorted(one.number for one in destination.accepted) == list(range(10))


class TestOrder:
    def test_order_holds_where_the_batch_key_of_a_key_changes(self) -> None:
        """A session whose listener signs in halfway stays in order, in separate calls."""
        records = [
            FakeRecord("session", n, group="guest" if n % 5 < 3 else "user") for n in range(20)
        ]
        destination = ScriptedDestination()
        deliver(destination, records)
        assert [one.number for one in destination.accepted] == list(range(20))
        assert destination.peak_in_flight == 1

    def test_one_per_order_key_never_lets_an_older_one_overwrite(self) -> None:
        """Where a call can succeed in part, a call carries one record of each key."""
        random = Random(2)
        destination = ScriptedDestination(
            lambda batch, _: [Retry() if random.random() < 0.5 else DELIVERED for _ in batch],
            limits=limits(one_per_order_key=True),
        )
        records = [FakeRecord(f"key-{key}", n, group="all") for n in range(20) for key in range(6)]
        deliver(destination, records)
        assert all(n == list(range(20)) for n in numbers_by_key(destination.accepted).values())
        assert max(len(sent.records) for sent in destination.sent) == 6

    def test_records_without_order_fill_calls_side_by_side(self) -> None:
        """Without an order key nothing waits for a call that carries something else."""
        destination = ScriptedDestination(latency=1.0)
        deliver(destination, [FakeRecord(None, n, group="all") for n in range(80)])
        assert [len(sent.records) for sent in destination.sent] == [10] * 8
        assert destination.peak_in_flight == 8

    async def test_a_retry_without_order_delays_no_other(self) -> None:
        """Unordered records are sent while others wait to be sent again."""
        destination = ScriptedDestination(
            lambda batch, call: [Retry(after=60) if call == 0 else DELIVERED] * len(batch)
        )
        async with engine_for(destination) as engine:
            records = [FakeRecord(None, n, group="all") for n in range(30)]
            delivery = asyncio.ensure_future(engine.deliver(records))
            await asyncio.sleep(1)
            assert len(destination.accepted) == 20
            assert engine.snapshot()["waiting"] == 10
            await delivery
            assert now() == pytest.approx(60, abs=0.2)
        assert len(destination.accepted) == 30


class TestBatches:
    def test_a_large_delivery_goes_out_in_full_calls(self) -> None:
        """However long it takes to take the records in: not a call for each few of them."""
        destination = ScriptedDestination(
            limits=limits(max_records=200, max_bytes=10_000, calls_per_second=1e6), latency=0.0
        )
        deliver(destination, [FakeRecord(None, n, group="all") for n in range(900)])
        sizes = [len(sent.records) for sent in destination.sent]
        assert sizes == [200] * 4 + [100]

    def test_batches_end_at_the_byte_limit(self) -> None:
        """A batch holds as many records as fit, by bytes where that comes first."""
        destination = ScriptedDestination()
        deliver(destination, [FakeRecord("a", n, size=300) for n in range(7)])
        assert [len(sent.records) for sent in destination.sent] == [3, 3, 1]

    def test_a_record_of_exactly_the_limit_is_sent(self) -> None:
        """The limit itself is allowed; one byte more is rejected with both sizes."""
        destination = ScriptedDestination()
        outcomes = deliver(
            destination, [FakeRecord("a", 0, size=500), FakeRecord("a", 1, size=501)]
        )
        assert outcomes[0] == Delivered()
        assert outcomes[1] == Rejected(
            "RecordTooLarge", "501 bytes; the scripted destination takes at most 500 bytes a record"
        )

    def test_keys_that_share_a_batch_key_share_calls(self) -> None:
        """Forty keys of one batch key need four calls."""
        destination = ScriptedDestination()
        deliver(destination, [FakeRecord(f"key-{n}", n, group="all") for n in range(40)])
        assert len(destination.sent) == 4

    async def test_batches_grow_while_the_destination_is_down(self) -> None:
        """What arrives for a key while it waits for a retry joins the next call."""
        destination = ScriptedDestination(first(1, Retry(after=5)))
        async with engine_for(destination) as engine:

            async def caller(number: int) -> None:
                await asyncio.sleep(number * 0.5)
                await engine.deliver([FakeRecord("a", number)])

            await asyncio.gather(*(caller(number) for number in range(8)))
        assert [len(sent.records) for sent in destination.sent] == [1, 8]


class TestTurns:
    async def test_a_long_backlog_of_one_key_does_not_starve_another_caller(self) -> None:
        """A caller with one record is done after one turn of the others."""
        destination = ScriptedDestination(limits=limits(max_in_flight=2), latency=0.1)
        async with engine_for(destination) as engine:
            busy = [
                asyncio.ensure_future(engine.deliver([FakeRecord(key, n) for n in range(1000)]))
                for key in ("a", "b", "c")
            ]
            await asyncio.sleep(1.0)
            before = now()
            await engine.deliver([FakeRecord("small", 0)])
            passed = now() - before
            assert not any(one.done() for one in busy)
            for one in busy:
                one.cancel()
            value = passed
        assert value < 0.45

    def test_a_batch_key_with_a_long_backlog_leaves_turns_to_others(self) -> None:
        """Twenty waiting calls of one batch key delay another batch key by a call or two."""
        destination = ScriptedDestination(limits=limits(max_in_flight=1))
        crowd = [FakeRecord(f"key-{n}", 0, group="crowd") for n in range(200)]
        deliver(destination, [*crowd, FakeRecord("small", 0)])
        assert [sent.records[0].key for sent in destination.sent].index("small") <= 2

    async def test_keys_that_fail_do_not_starve_the_others(self) -> None:
        """Keys that are retried indefinitely leave turns to those that work."""
        destination = ScriptedDestination(
            lambda batch, _: Retry() if batch[0].key == "bad" else DELIVERED,
            limits=limits(max_in_flight=1, calls_per_second=10.0),
        )
        async with engine_for(destination, backoff_cap=0.2) as engine:
            bad = asyncio.ensure_future(
                engine.deliver([FakeRecord("bad", n, group=f"bad-{n}") for n in range(5)])
            )
            await engine.deliver([FakeRecord(f"good-{n}", 0) for n in range(30)])
            assert now() < 10
            bad.cancel()

    async def test_the_bound_holds_over_all_callers(self) -> None:
        """Many callers together have no more calls under way than one."""
        destination = ScriptedDestination()
        async with engine_for(destination) as engine:
            await asyncio.gather(
                *(
                    engine.deliver([FakeRecord(f"{caller}-{n}", 0) for n in range(30)])
                    for caller in range(5)
                )
            )
        assert destination.peak_in_flight == 8

    async def test_the_buffer_is_bounded_and_nothing_is_lost(self) -> None:
        """No more entries wait than allowed, however much the callers bring."""
        destination = ScriptedDestination(limits=limits(max_in_flight=2))
        most = 0
        async with engine_for(destination, max_buffered=50) as engine:

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, int(engine.snapshot()["waiting"]))
                    await asyncio.sleep(0.005)

            watching = asyncio.ensure_future(watch())
            await asyncio.gather(
                *(
                    engine.deliver([FakeRecord(f"{caller}-{n % 40}", n) for n in range(400)])
                    for caller in range(4)
                )
            )
            watching.cancel()
        assert most == 50
        assert len(destination.accepted) == 1600

    async def test_callers_that_wait_for_room_are_served_when_one_of_them_is_cancelled(
        self,
    ) -> None:
        """A cancelled caller passes the room that it was offered on."""
        destination = ScriptedDestination(limits=limits(max_in_flight=1), latency=1.0)
        async with engine_for(destination, max_buffered=3) as engine:
            callers = [
                asyncio.ensure_future(engine.deliver([FakeRecord(f"{c}-{n}", n) for n in range(5)]))
                for c in range(6)
            ]
            await asyncio.sleep(0.5)
            for caller in (1, 2, 4):
                callers[caller].cancel()
            assert [await callers[c] for c in (0, 3, 5)] == [[DELIVERED] * 5] * 3
            assert engine.snapshot()["waiting"] == 0


class TestPace:
    async def test_no_faster_than_the_share_of_the_quota(self) -> None:
        """In no second start more calls than the share allows, also after a rest."""
        destination = ScriptedDestination(
            limits=limits(max_in_flight=1_000, calls_per_second=400.0), latency=0.001
        )
        async with engine_for(destination, quota_share=0.5, burst=0.05) as engine:
            await asyncio.sleep(10)  # a bucket could have filled meanwhile
            await engine.deliver(fake_records(keys=1_000, each=1))
        starts = [sent.started for sent in destination.sent]
        assert len(starts) == 1_000
        for window in (0.05, 0.5, 1.0, 3.0):
            most = max(sum(s <= t < s + window for t in starts) for s in starts)
            assert most <= (200 / 1.02) * (window + 0.05) + 2
            if window >= 1:
                assert most <= 200 * window

    def test_the_quota_is_used(self) -> None:
        """With enough calls in flight all of the quota is used, but for 2% to be safe."""
        destination = ScriptedDestination(limits=limits(max_in_flight=40))
        value = seconds_to_deliver(destination, fake_records(keys=5_000, each=1))
        assert value == pytest.approx(5.0 * 1.02, rel=0.005)

    def test_a_slow_quota_is_kept_to_the_call(self) -> None:
        """PutItems: ten calls a second, a hundred records a second, not more and hardly less."""
        destination = ScriptedDestination(limits=limits(calls_per_second=10.0))
        value = seconds_to_deliver(
            destination, [FakeRecord(f"key-{n}", n, group="all") for n in range(2_000)]
        )
        assert value == pytest.approx(19.9 * 1.02, rel=0.005)
        assert len(destination.sent) == 200

    async def test_a_share_of_the_bytes_is_kept_and_used(self) -> None:
        """Half of 2,000 bytes a second, in calls of a tenth of it or more."""
        destination = ScriptedDestination(limits=limits(bytes_per_second=2_000))
        async with engine_for(destination, quota_share=0.5) as engine:
            await asyncio.sleep(10)
            begun = now()
            await engine.deliver([FakeRecord(None, n, size=30, group="all") for n in range(300)])
            took = now() - begun
        bytes_sent = [sum(record.size for record in sent.records) for sent in destination.sent]
        starts = [sent.started for sent in destination.sent]
        for start in starts:
            second = zip(starts, bytes_sent, strict=True)
            assert sum(size for at, size in second if start <= at < start + 1.0) <= 1_000
        # 33 of 30 bytes fit into a second.
        assert took == pytest.approx(300 / 33 * A_SECOND, abs=A_SECOND)
        assert min(bytes_sent) >= 90

    def test_a_record_above_the_bytes_of_a_second_goes_alone(self) -> None:
        """It cannot be kept within the share, and must not wait indefinitely."""
        destination = ScriptedDestination(limits=limits(bytes_per_second=100))
        records = [FakeRecord("a", n, size=size) for n, size in enumerate([40, 300, 40, 40, 300])]
        assert deliver(destination, records) == [Delivered()] * 5
        assert [len(sent.records) for sent in destination.sent] == [1, 1, 2, 1]
        starts = [sent.started for sent in destination.sent]
        assert all(after - before >= 1.0 for before, after in pairwise(starts))

    def test_bytes_of_a_call_that_is_cancelled_unmade_are_given_back(self) -> None:
        """Others may have them at once."""
        window = Window(100)
        window.reserve(80)
        assert window.wait(5.0, 30) > 0
        window.release(80)
        assert window.wait(5.0, 100) == 0
        window.reserve(60)
        window.use(5.0, 60)
        assert window.room(5.5) == 40
        assert window.wait(5.5, 41) == pytest.approx(A_SECOND - 0.5)

    def test_calls_that_are_late_on_their_way_count_when_they_are_made(self) -> None:
        """A held-up event loop bunches them; the seconds after it have no more than the quota."""
        rate = AdaptiveRate(
            ceiling=9.0, floor=1.0, increase=1.0, max_per_second=10, burst=1.0, now=0.0
        )
        rate.wait(5.0)  # after a rest the bucket is full
        for _ in range(10):
            assert rate.wait(5.0) == 0
            rate.take(5.0)
        assert rate.wait(5.0) > 0  # not yet made, they count already
        for _ in range(9):
            rate.note_sent(5.5)
        rate.note_dropped()
        assert rate.wait(5.9) == 0  # instead of the one that was dropped
        rate.take(5.9)
        rate.note_sent(5.9)
        assert rate.wait(6.1) == pytest.approx(5.5 + A_SECOND - 6.1)
        assert rate.wait(5.5 + A_SECOND) == 0

    async def test_one_round_trip_halves_the_rate_once(self) -> None:
        """Calls throttled together count as one sign; the next round trip's are another."""
        destination = ScriptedDestination(first(16, THROTTLED), latency=1.0)
        async with engine_for(destination, recovery=1e9, backoff_base=0.001) as engine:
            delivery = asyncio.ensure_future(engine.deliver(fake_records(keys=8, each=1)))
            rates: list[float] = []
            while not delivery.done():
                await asyncio.sleep(0.5)
                rates.append(round(engine.snapshot()["rate_limit"]))
        assert sorted(set(rates), reverse=True) == [980, 490, 245]

    async def test_the_rate_has_a_floor_and_recovers_in_a_straight_line(self) -> None:
        """Down to the floor, never below; then back to the ceiling in the set time, never above."""
        destination = ScriptedDestination(
            lambda *_: THROTTLED if now() < 5 else DELIVERED, latency=0.001
        )
        async with engine_for(destination, rate_floor=0.05, recovery=100.0) as engine:
            lowest = 1e9

            async def watch() -> None:
                nonlocal lowest
                while True:
                    lowest = min(lowest, engine.snapshot()["rate_limit"])
                    await asyncio.sleep(0.01)

            watching = asyncio.ensure_future(watch())
            await engine.deliver(fake_records(keys=20, each=1))
            watching.cancel()
            ceiling = 1000 / 1.02
            assert 0.05 * ceiling <= lowest < 0.06 * ceiling
            low = engine.snapshot()["rate_limit"]
            await asyncio.sleep(1)
            assert engine.snapshot()["rate_limit"] == pytest.approx(low + ceiling / 100)
            await asyncio.sleep(200)
            assert engine.snapshot()["rate_limit"] == pytest.approx(ceiling)

    def test_the_rate_settles_around_what_the_service_lets_through(self) -> None:
        """A service that takes a third of the assumed quota is used well, soon without a storm."""
        service, throttled_at = serve_quota(lambda: 300.0)
        destination = ScriptedDestination(service, limits=limits(max_in_flight=64))
        seconds = seconds_to_deliver(destination, fake_records(keys=4_500, each=1))
        assert 4_500 / 300 / seconds > 0.95
        # Once, for two seconds, it finds out what a pace that is too high brings.
        assert len(throttled_at) < 0.2 * 4_500
        assert sum(time > 5 for time in throttled_at) < 0.01 * 4_500

    def test_throttling_that_slowing_down_does_not_cure_is_put_up_with(self) -> None:
        """30% of all calls turned away at any pace: nine tenths of what can be had is had."""
        random = Random(9)
        destination = ScriptedDestination(
            lambda *_: THROTTLED if random.random() < 0.3 else DELIVERED,
            limits=limits(max_in_flight=64),
        )
        seconds = seconds_to_deliver(destination, fake_records(keys=14_000, each=1))
        assert 14_000 / seconds > 0.9 * 0.7 * 1_000

    def test_a_quota_that_becomes_smaller_is_kept(self) -> None:
        """From a thousand to a hundred calls a second: soon hardly a call is sent in vain."""
        service, throttled_at = serve_quota(lambda: 1_000.0 if now() < 5 else 100.0)
        destination = ScriptedDestination(service, limits=limits(max_in_flight=64))
        seconds = seconds_to_deliver(destination, fake_records(keys=7_000, each=1))
        assert (7_000 - 5_000) / (seconds - 5) > 75
        assert sum(5 <= time < 10 for time in throttled_at) < 4_000
        assert sum(time >= 10 for time in throttled_at) / (seconds - 10) < 20


class TestRetries:
    def test_retry_after_is_honoured(self) -> None:
        """A record is not sent again before the time that the destination asked for."""
        destination = ScriptedDestination(first(1, Retry(after=12.5)), latency=0.0)
        deliver(destination, [FakeRecord("a", 0)])
        assert destination.sent[1].started - (destination.sent[0].ended or 0) == pytest.approx(12.5)

    async def test_waits_double_up_to_the_cap(self) -> None:
        """The upper bounds of the waits are base, 2 x base, 4 x base ... cap, cap."""
        destination = ScriptedDestination(first(7, Retry()), latency=0.0)
        async with engine_for(
            destination, random=MaxRandom(), backoff_base=0.1, backoff_cap=2.0
        ) as engine:
            await engine.deliver([FakeRecord("a", 0)])
        waits = [round(b.started - a.started, 3) for a, b in pairwise(destination.sent)]
        assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]

    def test_waits_after_throttling_are_short(self) -> None:
        """The rate spreads the calls already; a long wait would hold up the whole micro-batch."""
        destination = ScriptedDestination(first(12, THROTTLED), latency=0.0)
        deliver(
            destination, [FakeRecord("a", 0)], backoff_base=0.1, throttled_cap=0.3, rate_floor=1.0
        )
        assert max(b.started - a.started for a, b in pairwise(destination.sent)) < 0.301

    def test_waits_are_spread_over_their_whole_range(self) -> None:
        """Records that failed together do not come back together: full jitter."""
        destination = ScriptedDestination(
            first(400, Retry()), limits=limits(max_in_flight=400, calls_per_second=1e6), latency=0.0
        )
        deliver(destination, fake_records(keys=400, each=1), backoff_base=1.0)
        waits = [sent.started for sent in destination.sent[400:800]]
        shares = [sum(low <= wait < low + 0.25 for wait in waits) for low in (0, 0.25, 0.5, 0.75)]
        assert all(60 < share < 140 for share in shares)

    def test_retries_have_no_end(self) -> None:
        """After a thousand failures, and after an outage of hours, the record still arrives."""
        destination = ScriptedDestination(first(5_000, Retry(reason="refused")))
        assert deliver(destination, [FakeRecord("a", 0)]) == [DELIVERED]
        assert len(destination.sent) == 5_001
        assert destination.sent[-1].started > 3 * 3600

    async def test_a_call_that_hangs_is_cancelled_and_repeated(self) -> None:
        """No answer within the call's time-out counts as a failure of the network."""
        destination = ScriptedDestination(lambda _, call: hang() if call < 3 else DELIVERED)
        async with engine_for(destination, call_timeout=5.0) as engine:
            records = [*fake_records(keys=2, each=4), FakeRecord("late", 0)]
            assert await engine.deliver(records) == [DELIVERED] * 9
            assert engine.metrics.timed_out == 3
            assert now() < 7
        assert destination.in_flight == 0

    async def test_time_outs_are_counted_from_each_call(self) -> None:
        """A call that was started later is given its own full time."""
        destination = ScriptedDestination(latency=4.0)
        async with engine_for(destination, call_timeout=5.0) as engine:
            one = asyncio.ensure_future(engine.deliver([FakeRecord("a", 0)]))
            await asyncio.sleep(3)
            await asyncio.gather(one, engine.deliver([FakeRecord("b", 0)]))
            assert engine.metrics.timed_out == 0

    async def test_waiting_for_a_retry_takes_no_slot(self) -> None:
        """A record that waits to be sent again does not count as a call under way."""
        destination = ScriptedDestination(
            lambda batch, _: Retry(after=100) if batch[0].key == "bad" else DELIVERED,
            limits=limits(max_in_flight=1),
        )
        async with engine_for(destination) as engine:
            bad = asyncio.ensure_future(engine.deliver([FakeRecord("bad", 0)]))
            await asyncio.sleep(1)
            await engine.deliver(fake_records(keys=10, each=1))
            assert now() < 2
            bad.cancel()


class TestBisection:
    @pytest.mark.parametrize("bad", [{n} for n in range(10)])
    def test_one_bad_record_of_ten_costs_few_calls(self, bad: set[int]) -> None:
        """About two calls for each halving; not one call for each record."""
        destination = ScriptedDestination(refuse_batches_with(lambda one: one.number in bad))
        deliver(destination, fake_records(keys=1, each=10))
        assert len(destination.sent) <= 9

    def test_records_that_come_later_do_not_get_into_a_bisection(self) -> None:
        """A half is not filled up again: the search would start from the beginning."""
        destination = ScriptedDestination(refuse_batches_with(lambda one: one.number == 0))
        deliver(destination, fake_records(keys=1, each=30))
        sizes = [len(sent.records) for sent in destination.sent]
        assert sizes == [10, 5, 2, 1, 1, 3, 5, 10, 10]

    def test_halves_of_several_keys_are_found_side_by_side(self) -> None:
        """A batch of many keys is bisected across keys."""
        destination = ScriptedDestination(refuse_batches_with(lambda one: one.number in {3, 8}))
        records = [FakeRecord(f"key-{n}", n, group="all") for n in range(10)]
        outcomes = deliver(destination, records)
        assert [n for n, one in enumerate(outcomes) if isinstance(one, Rejected)] == [3, 8]
        assert len(destination.sent) <= 15

    def test_records_that_are_each_rejected_are_not_bisected(self) -> None:
        """Where the service names the bad records, there is nothing to search."""
        destination = ScriptedDestination(lambda *_: Rejected("Bad", "each of them"))
        assert (
            deliver(destination, fake_records(keys=1, each=10))
            == [Rejected("Bad", "each of them")] * 10
        )
        assert len(destination.sent) == 1


class TestSuperseding:
    """What the contract suite does not ask of every destination that replaces."""

    async def test_older_versions_have_their_outcome_when_the_newest_has(self) -> None:
        """Nothing is acknowledged on the word of a version that may yet be rejected."""
        destination = ReplacingDestination(latency=1.0)
        async with engine_for(destination) as engine:
            under_way = asyncio.ensure_future(engine.deliver([FakeRecord("a", 0)]))
            await asyncio.sleep(0.1)
            older = asyncio.ensure_future(engine.deliver([FakeRecord("a", 1)]))
            newer = asyncio.ensure_future(engine.deliver([FakeRecord("a", 2)]))
            await asyncio.sleep(1.4)
            assert under_way.done()
            assert not older.done()
            assert await older == [Superseded()]
            assert now() == pytest.approx(2.0, abs=0.01)
            assert await newer == [Delivered()]
        assert [one.number for one in destination.accepted] == [0, 2]

    async def test_a_newer_version_whose_caller_gives_up_takes_nothing_with_it(self) -> None:
        """The older one, of another caller, is sent after all."""
        destination = ReplacingDestination(latency=1.0)
        async with engine_for(destination) as engine:
            under_way = asyncio.ensure_future(engine.deliver([FakeRecord("a", 0)]))
            await asyncio.sleep(0.1)
            older = asyncio.ensure_future(engine.deliver([FakeRecord("a", 1)]))
            doomed = asyncio.ensure_future(engine.deliver([FakeRecord("a", 2)]))
            await asyncio.sleep(0.1)
            doomed.cancel()
            assert await older == await under_way == [Delivered()]
        assert [one.number for one in destination.accepted] == [0, 1]

    async def test_a_newer_version_that_is_cancelled_under_way_is_not_taken_for_accepted(
        self,
    ) -> None:
        """Its call is cancelled, so what waited behind it goes."""
        destination = ReplacingDestination(lambda _, call: hang() if call == 0 else DELIVERED)
        async with engine_for(destination) as engine:
            doomed = asyncio.ensure_future(engine.deliver([FakeRecord("a", 2)]))
            await asyncio.sleep(0.1)
            older = asyncio.ensure_future(engine.deliver([FakeRecord("a", 1)]))
            await asyncio.sleep(0.1)
            doomed.cancel()
            assert await older == [Delivered()]

    async def test_of_equal_versions_the_later_arrival_is_the_newer(self) -> None:
        """Sent while the first waits, or after it: the second is what the destination holds."""
        destination = ReplacingDestination(latency=1.0)
        async with engine_for(destination) as engine:
            one, two, three = (FakeRecord("a", 5, size=size) for size in (1, 2, 3))
            first = asyncio.ensure_future(engine.deliver([one]))
            await asyncio.sleep(0.1)
            others = await engine.deliver([two, three])
            assert await first == [Delivered()]
            assert others == [Superseded(), Delivered()]
            assert await engine.deliver([two]) == [Delivered()]
        assert [one.size for one in destination.accepted] == [1, 3, 2]

    async def test_a_newer_version_may_have_another_batch_key(self) -> None:
        """It waits in the other group then, and the call of the first group goes without it."""
        destination = ReplacingDestination(latency=1.0, limits=limits(max_in_flight=1))
        async with engine_for(destination) as engine:
            first = asyncio.ensure_future(engine.deliver([FakeRecord("x", 0, group="one")]))
            await asyncio.sleep(0.1)
            records = [FakeRecord("a", 1, group="one"), FakeRecord("b", 1, group="one")]
            others = asyncio.ensure_future(engine.deliver(records))
            await asyncio.sleep(0.1)
            assert await engine.deliver([FakeRecord("a", 2, group="two")]) == [Delivered()]
            assert await others == [Superseded(), Delivered()]
            assert await first == [Delivered()]
            assert engine.held()["lanes"] == 0
        assert [(one.key, one.number) for one in destination.accepted] == [
            ("x", 0),
            ("b", 1),
            ("a", 2),
        ]

    @pytest.mark.parametrize(
        ("destination", "records"),
        [
            (ReplacingDestination(), [FakeRecord(None, n, group="all") for n in range(50)]),
            (ScriptedDestination(), fake_records(keys=1, each=50)),
        ],
        ids=["no order key", "no versions"],
    )
    def test_records_that_replace_nothing_are_all_delivered(
        self, destination: ScriptedDestination, records: list[FakeRecord]
    ) -> None:
        """Without an order key, or to a destination without `version`."""
        assert deliver(destination, records) == [Delivered()] * 50
        assert len(destination.accepted) == 50

    async def test_memory_of_accepted_versions_is_bounded(self) -> None:
        """The least recently accepted keys are dropped; the others are not."""
        destination = ReplacingDestination()
        async with engine_for(destination, remembered_versions=10) as engine:
            await engine.deliver([FakeRecord(f"key-{n}", 5, group="all") for n in range(10)])
            await engine.deliver([FakeRecord("key-0", 6, group="all")])
            await engine.deliver([FakeRecord("new", 5, group="all")])
            assert engine.held()["versions"] == 10
            assert await engine.deliver([FakeRecord("key-0", 5, group="all")]) == [Superseded()]
            assert await engine.deliver([FakeRecord("key-2", 4, group="all")]) == [Superseded()]
            assert await engine.deliver([FakeRecord("key-1", 4, group="all")]) == [Delivered()]

    async def test_superseded_records_leave_room_for_others(self) -> None:
        """A burst of one key fills the buffer, not for longer than a call."""
        destination = ReplacingDestination()
        async with engine_for(destination, max_buffered=20) as engine:
            outcomes = await engine.deliver([FakeRecord("a", n) for n in range(1_000)])
            assert outcomes[-1] == Delivered()
            assert engine.snapshot()["waiting"] == 0
            assert len(destination.accepted) < 1_000 / 5


class TestCancellation:
    async def test_calls_that_carry_others_records_go_on(self) -> None:
        """A call is cancelled only when no caller waits for any of its records."""
        destination = ScriptedDestination(latency=1.0, limits=limits(calls_per_second=1.0))
        async with engine_for(destination) as engine:
            # Takes the first second's call, so that the other two callers' records share the next.
            warm_up = asyncio.ensure_future(engine.deliver([FakeRecord("warm-up", 0)]))
            doomed = asyncio.ensure_future(engine.deliver([FakeRecord("a", 0), FakeRecord("b", 0)]))
            other = asyncio.ensure_future(engine.deliver([FakeRecord("a", 1)]))
            await asyncio.sleep(1.5)
            doomed.cancel()
            assert await warm_up == await other == [DELIVERED]
            assert engine.snapshot()["in_flight"] == 0
        assert destination.sent[1].records == (FakeRecord("a", 0), FakeRecord("a", 1))
        assert not any(one.key == "b" for sent in destination.sent for one in sent.records)

    async def test_a_key_goes_on_behind_a_cancelled_call(self) -> None:
        """Others' records of the same key wait for the cancelled call's end, then go."""
        destination = ScriptedDestination(lambda _, call: hang() if call == 0 else DELIVERED)
        async with engine_for(destination) as engine:
            doomed = asyncio.ensure_future(engine.deliver([FakeRecord("a", n) for n in range(10)]))
            await asyncio.sleep(0.1)
            other = asyncio.ensure_future(engine.deliver([FakeRecord("a", 10)]))
            await asyncio.sleep(0.1)
            doomed.cancel()
            assert await other == [DELIVERED]
            assert now() < 0.3

    async def test_a_call_cancelled_before_its_first_step_leaves_nothing_behind(self) -> None:
        """A call that is cancelled at its start is not made, and its bytes are not counted."""
        destination = ScriptedDestination(limits=limits(bytes_per_second=100))
        async with engine_for(destination) as engine:
            doomed = asyncio.ensure_future(engine.deliver([FakeRecord("a", 0)]))
            await asyncio.sleep(0)  # the call's task has been made, and has not run yet
            assert engine.snapshot()["in_flight"] == 1
            await engine.close()
            assert engine.snapshot()["in_flight"] == 0
            assert not any(engine.held().values())
            with pytest.raises(DeliveryClosedError):
                await doomed
        assert destination.sent == []

    @pytest.mark.parametrize("key", ["a", None])
    async def test_waiting_retries_are_dropped(self, key: str | None) -> None:
        """A cancelled caller's records are not sent when their back-off ends."""
        destination = ScriptedDestination(first(1, Retry(after=5)))
        async with engine_for(destination) as engine:
            doomed = asyncio.ensure_future(engine.deliver([FakeRecord(key, 0, group="all")]))
            await asyncio.sleep(1)
            assert engine.snapshot()["waiting"] == 1
            doomed.cancel()
            await asyncio.sleep(1)
            assert engine.snapshot()["waiting"] == 0
            await asyncio.sleep(10)
            assert len(destination.sent) == 1
            assert await engine.deliver([FakeRecord(key, 1, group="all")]) == [DELIVERED]

    async def test_close_fails_those_who_wait(self) -> None:
        """Close cancels what is under way, fails every caller, and closes the destination."""
        destination = ScriptedDestination(lambda *_: hang())
        async with engine_for(destination) as engine:
            waiting = [
                asyncio.ensure_future(engine.deliver(fake_records(keys=30, each=2)))
                for _ in range(3)
            ]
            await asyncio.sleep(1)
            await engine.close()
            for one in waiting:
                with pytest.raises(DeliveryClosedError, match="not acknowledged"):
                    await one
            assert destination.closed
            assert destination.in_flight == 0

    async def test_close_leaves_no_task(self) -> None:
        """After close the event loop has nothing of the engine's left to do."""
        destination = ScriptedDestination(first(3, Retry(after=3)))
        async with engine_for(destination) as engine:
            await engine.deliver(fake_records(keys=3, each=2))
            await engine.close()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_drain_of_an_idle_engine_returns(self) -> None:
        """There is nothing to wait for."""
        async with engine_for(ScriptedDestination()) as engine:
            await engine.drain()


class TestMetrics:
    async def test_the_counters_tell_what_happened(self) -> None:
        """Each counter against a run with known counts."""
        script: dict[int, Outcome] = {0: THROTTLED, 1: Retry()}
        refuse = refuse_batches_with(lambda record: record.number == 1)
        destination = ScriptedDestination(
            lambda batch, call: script[call] if call in script else refuse(batch, call)
        )
        async with engine_for(destination) as engine:
            await engine.deliver(fake_records(keys=1, each=4))
            values = engine.snapshot()
        expected = {
            "delivered": 3,
            "rejected": 1,
            "retried": 8,
            "abandoned": 0,
            "calls": 7,
            "throttled": 1,
            "slowed_down": 1,
            "bisected": 2,
            "timed_out": 0,
            "waiting": 0,
            "in_flight": 0,
            "oldest_age": 0,
            "batch_size_count": 7,
            "batch_size_max": 4,
            "delivery_latency_count": 4,
        }
        assert {name: values[name] for name in expected} == expected
        assert values["call_latency_mean"] == pytest.approx(0.02)
        assert values["call_latency_p99"] == pytest.approx(0.02, rel=0.01)

    async def test_the_gauges_tell_what_is_going_on(self) -> None:
        """In flight, waiting and the age of the oldest, in the middle of a run."""
        destination = ScriptedDestination(lambda *_: hang())
        async with engine_for(destination) as engine:
            one = asyncio.ensure_future(engine.deliver(fake_records(keys=10, each=1)))
            await asyncio.sleep(2)
            two = asyncio.ensure_future(engine.deliver(fake_records(keys=1, each=5)))
            await asyncio.sleep(1)
            state = engine.snapshot()
            assert (state["in_flight"], state["waiting"]) == (8, 7)
            assert state["oldest_age"] == pytest.approx(3)
            one.cancel()
            two.cancel()

    async def test_the_catalogue_is_complete(self) -> None:
        """Every metric is in the catalogue once, with unit and meaning, and in the snapshot."""
        async with engine_for(ScriptedDestination()) as engine:
            values = engine.snapshot()
        names = [metric.name for metric in CATALOGUE]
        assert len(names) == len(set(names))
        assert all(metric.unit and metric.meaning for metric in CATALOGUE)
        for metric in CATALOGUE:
            name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
            assert name in values


class TestSettings:
    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("quota_share", 0),
            ("quota_share", 1.5),
            ("rate_floor", 0),
            ("backoff_base", -1),
            ("call_timeout", 0),
            ("burst", 0),
            ("max_buffered", 0),
        ],
    )
    def test_a_bad_setting_is_named(self, setting: str, value: Any) -> None:
        """Name, value and what was expected are in the message."""
        with pytest.raises(SettingError, match=f"{setting} is {value}; expected"):
            DeliverySettings(**{setting: value})

    @pytest.mark.parametrize("limit", ["max_records", "max_bytes", "max_in_flight"])
    def test_a_limit_below_one_is_refused(self, limit: str) -> None:
        """A limit of nothing would wait indefinitely."""
        with pytest.raises(SettingError, match=limit):
            limits(**{limit: 0})
        with pytest.raises(SettingError, match="calls_per_second"):
            limits(calls_per_second=0)
        with pytest.raises(SettingError, match="bytes_per_second"):
            limits(bytes_per_second=0)
