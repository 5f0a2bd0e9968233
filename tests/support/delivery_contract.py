"""What every destination has to do together with the engine, whatever it is.

A destination's test module subclasses `DestinationContract` (or `ReplacingDestinationContract`,
where a record replaces the one before it) and says in a harness how to make records and how to make
its service fail. Everything runs in virtual time, without a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, ClassVar, Literal, Protocol

import pytest

from connectors.delivery import (
    Delivered,
    DeliveryClosedError,
    DeliveryEngine,
    DeliverySettings,
    Destination,
    FatalDeliveryError,
    Outcome,
    Rejected,
    Settled,
    Superseded,
)
from tests.support.delivery_fakes import VIRTUAL_CLOCK, run

Trouble = Literal["throttled", "server error", "connection lost", "hanging", "fatal"]


class Harness(Protocol):
    """A destination, with a service behind it that fails on demand."""

    @property
    def destination(self) -> Destination[Any, Any]: ...

    @property
    def peak_in_flight(self) -> int: ...

    @property
    def calls(self) -> int:
        """Calls that reached the service."""

    def record(self, key: int, number: int) -> Any:
        """A good record, the `number`-th of its key. Records of one key may share a call; whether
        they keep their order or replace each other, and whether records of several keys may share
        a call, is for the destination to say."""

    def refused_record(self, key: int, number: int) -> Any:
        """A record that only the service finds to be bad."""

    def oversize_record(self, key: int, number: int) -> Any:
        """A record above the limit of the destination."""

    def accepted(self) -> list[tuple[int, int]]:
        """(key, number) of the records that the service accepted, in order."""

    def fail_next(self, calls: int, trouble: Trouble) -> None:
        """The next calls meet this trouble; then all is well again."""


class Watched:
    """A destination that is looked at while it is used: no call may break its own limits."""

    def __init__(
        self, destination: Destination[Any, Any], *, bytes_per_second: int | None = None
    ) -> None:
        self._destination = destination
        self.limits = destination.limits
        if bytes_per_second is not None:
            self.limits = replace(self.limits, bytes_per_second=bytes_per_second)
        self.sent: list[tuple[float, int]] = []
        """Time and bytes of each call."""
        self._under_way: list[Hashable] = []
        self._in_flight = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._destination, name)

    async def send(self, batch: Sequence[Any]) -> Sequence[Outcome]:
        destination, limits = self._destination, self.limits
        assert 1 <= len(batch) <= limits.max_records
        size = sum(destination.size(entry) for entry in batch)
        assert size <= limits.max_bytes
        self.sent.append((asyncio.get_running_loop().time(), size))
        assert len({destination.batch_key(entry) for entry in batch}) == 1
        keys = [key for entry in batch if (key := destination.order_key(entry)) is not None]
        assert not set(keys) & set(self._under_way), "two calls of one order key at a time"
        if limits.one_per_order_key or hasattr(destination, "version"):
            assert len(set(keys)) == len(keys)
        assert self._in_flight < limits.max_in_flight
        self._under_way += keys
        self._in_flight += 1
        try:
            outcomes = await destination.send(batch)
        finally:
            self._in_flight -= 1
            for key in keys:
                self._under_way.remove(key)
        assert len(outcomes) == len(batch)
        return outcomes


def _in_order(accepted: list[tuple[int, int]]) -> bool:
    newest: dict[int, int] = {}
    for key, number in accepted:
        if number <= newest.get(key, -1):
            return False
        newest[key] = number
    return True


def _is_ordered(harness: Harness) -> bool:
    """The destination keeps the order of a key."""
    destination = harness.destination
    return destination.order_key(destination.prepare(harness.record(0, 0))) is not None


def _fill_calls(harness: Harness, calls: int, number: int = 0) -> list[Any]:
    """Records that make so many calls: one of each key, or, where keys share calls, full ones."""
    destination = harness.destination
    one, two = (destination.prepare(harness.record(key, 0)) for key in (0, 1))
    keys_share_calls = destination.batch_key(one) == destination.batch_key(two)
    records = calls * destination.limits.max_records if keys_share_calls else calls
    return [harness.record(key, number) for key in range(records)]


def _deliver(harness: Harness, records: list[Any], **settings: Any) -> list[Settled]:
    async def main() -> list[Settled]:
        async with _engine(harness, **settings) as engine:
            return await engine.deliver(records)

    return run(main())


def _engine(harness: Harness, **settings: Any) -> DeliveryEngine[Any, Any]:
    return _engine_for(Watched(harness.destination), **settings)


def _engine_for(destination: Watched, **settings: Any) -> DeliveryEngine[Any, Any]:
    return DeliveryEngine(
        destination, random=Random(7), clock=VIRTUAL_CLOCK, settings=DeliverySettings(**settings)
    )


class DestinationContract:
    """Subclass it, and give `make_harness`."""

    make_harness: ClassVar[Callable[[], Harness]]

    @pytest.fixture
    def harness(self) -> Harness:
        return type(self).make_harness()

    def place(self, number: int) -> tuple[int, int]:
        """Key and number of the `number`-th of several records that may share a call."""
        return 0, number

    def test_everything_is_delivered_once_and_in_order(self, harness: Harness) -> None:
        """Without trouble each record arrives exactly once, in the order of its key."""
        records = [harness.record(key, number) for number in range(23) for key in range(7)]
        assert _deliver(harness, records) == [Delivered()] * len(records)
        assert len(harness.accepted()) == len(set(harness.accepted())) == len(records)
        assert _in_order(harness.accepted()) or not _is_ordered(harness)

    def test_records_share_calls(self, harness: Harness) -> None:
        """Records that may share a call fill it up to the destination's limit."""
        most = harness.destination.limits.max_records
        _deliver(harness, [harness.record(*self.place(number)) for number in range(2 * most)])
        assert harness.calls == 2

    def test_calls_in_flight_are_bounded(self, harness: Harness) -> None:
        """Many calls are under way side by side, up to the bound and never above."""
        most = harness.destination.limits.max_in_flight
        _deliver(harness, _fill_calls(harness, 5 * most))
        assert harness.peak_in_flight == most

    async def test_no_second_has_more_calls_than_the_share(self, harness: Harness) -> None:
        """However many wait, a fifth of the quota stays a fifth of it."""
        limits = harness.destination.limits
        share = limits.calls_per_second / 5
        engine = _engine(harness, quota_share=0.2)
        # Enough for more than a second.
        records = _fill_calls(harness, int(2 * share))
        delivery = asyncio.ensure_future(engine.deliver(records))
        await asyncio.sleep(1.0)
        assert 0.9 * share <= engine.metrics.calls <= share
        delivery.cancel()
        await engine.close()

    async def test_no_second_has_more_bytes_than_the_quota(self, harness: Harness) -> None:
        """A quota of bytes is kept, and used, whatever the destination's calls look like."""
        records = [harness.record(key, 0) for key in range(60)]
        destination = harness.destination
        sizes = [destination.size(destination.prepare(record)) for record in records]
        quota = 12 * max(sizes)
        watched = Watched(destination, bytes_per_second=quota)
        async with _engine_for(watched) as engine:
            await engine.deliver(records)
        for start, _ in watched.sent:
            assert sum(size for at, size in watched.sent if start <= at < start + 1.0) <= quota
        assert watched.sent[-1][0] < 1.2 * sum(sizes) / quota

    async def test_a_full_buffer_holds_its_callers_up(self, harness: Harness) -> None:
        """What there is no room for is not taken in, and everything arrives in the end."""
        engine = _engine(harness, max_buffered=3)
        records = [harness.record(key, 0) for key in range(40)]
        delivery = asyncio.ensure_future(engine.deliver(records))
        while not delivery.done():
            assert engine.snapshot()["waiting"] <= 3
            await asyncio.sleep(0.005)
        assert await delivery == [Delivered()] * 40

    @pytest.mark.parametrize("trouble", ["throttled", "server error", "connection lost", "hanging"])
    def test_passing_trouble_loses_nothing(self, harness: Harness, trouble: Trouble) -> None:
        """However many calls fail for a passing reason, every record arrives, in order if there is
        one."""
        harness.fail_next(40, trouble)
        records = [harness.record(key, number) for number in range(12) for key in range(3)]
        assert _deliver(harness, records) == [Delivered()] * len(records)
        assert sorted(set(harness.accepted())) == [(k, n) for k in range(3) for n in range(12)]
        assert _in_order(harness.accepted()) or not _is_ordered(harness)

    def test_throttling_slows_down(self, harness: Harness) -> None:
        """A throttled call lowers the rate of all calls; other trouble does not."""

        async def share_left(trouble: Trouble) -> float:
            harness.fail_next(1, trouble)
            engine = _engine(harness, recovery=1e9)
            before = engine.snapshot()["rate_limit"]
            await engine.deliver([harness.record(0, 0)])
            return engine.snapshot()["rate_limit"] / before

        assert run(share_left("server error")) == pytest.approx(1.0)
        assert run(share_left("throttled")) == pytest.approx(0.5)

    @pytest.mark.parametrize("bad", [{0}, {9}, {4}, {0, 9}, {2, 3, 7}, set(range(10))])
    def test_only_the_bad_records_are_rejected(self, harness: Harness, bad: set[int]) -> None:
        """Whichever records of a batch the service refuses, the others arrive, in order if there is
        one."""
        places = [self.place(number) for number in range(10)]
        records = [
            harness.refused_record(*place) if number in bad else harness.record(*place)
            for number, place in enumerate(places)
        ]
        outcomes = _deliver(harness, records)
        assert {n for n, outcome in enumerate(outcomes) if isinstance(outcome, Rejected)} == bad
        assert all(
            outcome.code and outcome.message and not outcome.whole_call
            for outcome in outcomes
            if isinstance(outcome, Rejected)
        )
        accepted = harness.accepted()
        assert sorted(accepted) == [place for n, place in enumerate(places) if n not in bad]
        assert _in_order(accepted) or not _is_ordered(harness)

    def test_an_oversize_record_is_rejected_unsent(self, harness: Harness) -> None:
        """A record that the destination never accepts costs no call and delays no other."""
        outcomes = _deliver(
            harness,
            [
                harness.oversize_record(*self.place(0)),
                harness.record(*self.place(1)),
                harness.oversize_record(9, 0),
                harness.record(*self.place(2)),
            ],
        )
        assert [type(one) for one in outcomes] == [Rejected, Delivered, Rejected, Delivered]
        assert harness.calls == 1
        assert harness.accepted() == [self.place(1), self.place(2)]

    async def test_a_fatal_answer_stops_with_a_message(self, harness: Harness) -> None:
        """Every waiting caller gets an error that names the destination and says what to do."""
        harness.fail_next(100, "fatal")
        engine = _engine(harness)
        errors = await asyncio.gather(
            engine.deliver([harness.record(key, 0) for key in range(50)]),
            engine.deliver([harness.record(key, 0) for key in range(50, 60)]),
            return_exceptions=True,
        )
        for error in errors:
            assert isinstance(error, FatalDeliveryError)
            assert harness.destination.name in str(error)
            assert len(error.message) > 10
        state = engine.snapshot()
        assert state["waiting"] == 0
        assert state["oldest_age"] == 0
        assert harness.accepted() == []

    async def test_cancellation_stops_the_calls_and_leaves_the_engine_usable(
        self, harness: Harness
    ) -> None:
        """A cancelled caller's calls end with it; others are served as if it had not been."""
        harness.fail_next(4, "hanging")
        engine = _engine(harness)
        lost = _fill_calls(harness, 4)
        doomed = asyncio.ensure_future(engine.deliver(lost))
        await asyncio.sleep(0.5)
        assert engine.snapshot()["in_flight"] == harness.calls > 0
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        await asyncio.sleep(0)
        harness.fail_next(0, "hanging")
        state = engine.snapshot()
        assert (state["in_flight"], state["waiting"]) == (0, 0)
        assert state["abandoned"] == len(lost)
        assert (
            await engine.deliver([harness.record(key, 1) for key in range(4)]) == [Delivered()] * 4
        )
        assert sorted(harness.accepted()) == [(key, 1) for key in range(4)]

    async def test_drain_waits_and_close_refuses(self, harness: Harness) -> None:
        """After drain everything has arrived; after close nothing more is taken."""
        engine = _engine(harness)
        delivery = asyncio.ensure_future(
            engine.deliver([harness.record(key, 0) for key in range(30)])
        )
        await asyncio.sleep(0)
        await engine.drain()
        assert len(harness.accepted()) == 30
        assert await delivery == [Delivered()] * 30
        await engine.close()
        with pytest.raises(DeliveryClosedError):
            await engine.deliver([harness.record(0, 1)])

    async def test_drain_at_the_end_of_input_waits_for_retries(self, harness: Harness) -> None:
        """Whatever the last records meet, drain returns when they have arrived."""
        harness.fail_next(25, "server error")
        engine = _engine(harness)
        delivery = asyncio.ensure_future(engine.deliver([harness.record(0, 0)]))
        await asyncio.sleep(0.1)
        await engine.drain()
        assert harness.accepted() == [(0, 0)]
        await delivery
        await engine.close()


class ReplacingDestinationContract(DestinationContract):
    """For destinations where a record replaces the one before it: the newest is what counts."""

    def place(self, number: int) -> tuple[int, int]:
        return number, 0

    def test_everything_is_delivered_once_and_in_order(self, harness: Harness) -> None:
        """Each key arrives in its newest version; of the others those that did not wait."""
        records = [harness.record(key, number) for number in range(23) for key in range(7)]
        outcomes = _deliver(harness, records)
        assert set(outcomes) <= {Delivered(), Superseded()}
        accepted = harness.accepted()
        assert outcomes.count(Delivered()) == len(accepted) == len(set(accepted))
        assert _in_order(accepted)
        assert dict(accepted) == dict.fromkeys(range(7), 22)

    @pytest.mark.parametrize("trouble", ["throttled", "server error", "connection lost", "hanging"])
    def test_passing_trouble_loses_nothing(self, harness: Harness, trouble: Trouble) -> None:
        """However many calls fail for a passing reason, the newest version of each key arrives."""
        harness.fail_next(40, trouble)
        outcomes = _deliver(harness, [harness.record(k, n) for n in range(12) for k in range(3)])
        assert set(outcomes) <= {Delivered(), Superseded()}
        assert _in_order(harness.accepted())
        assert dict(harness.accepted()) == dict.fromkeys(range(3), 11)

    async def test_a_burst_of_one_key_costs_one_record(self, harness: Harness) -> None:
        """Whatever waits is replaced by the newest, also between callers and during retries."""
        harness.fail_next(1, "server error")
        engine = _engine(harness, backoff_base=50.0)
        first = asyncio.ensure_future(engine.deliver([harness.record(0, 0)]))
        await asyncio.sleep(0.1)  # it has failed, and waits to be sent again
        second = asyncio.ensure_future(
            engine.deliver([harness.record(0, number) for number in range(1, 100)])
        )
        assert await first == [Superseded()]
        assert await second == [Superseded()] * 98 + [Delivered()]
        assert harness.accepted() == [(0, 99)]
        assert engine.metrics.superseded == 99

    async def test_a_failed_version_is_replaced_by_what_came_meanwhile(
        self, harness: Harness
    ) -> None:
        """Under way it cannot be replaced; once it has to be sent again, it is not sent again."""
        harness.fail_next(1, "server error")
        engine = _engine(harness)
        first = asyncio.ensure_future(engine.deliver([harness.record(0, 0)]))
        await asyncio.sleep(0.001)
        assert engine.snapshot()["in_flight"] == 1
        assert await engine.deliver([harness.record(0, 1)]) == [Delivered()]
        assert await first == [Superseded()]
        assert harness.accepted() == [(0, 1)]

    async def test_an_older_version_never_overtakes(self, harness: Harness) -> None:
        """Neither while the newer one waits or is under way, nor after it has arrived."""
        engine = _engine(harness)
        outcomes = await asyncio.gather(
            *(engine.deliver([harness.record(0, number)]) for number in (5, 3, 7, 6))
        )
        assert outcomes[2] == [Delivered()]
        assert await engine.deliver([harness.record(0, 6)]) == [Superseded()]
        assert _in_order(harness.accepted())
        assert harness.accepted()[-1] == (0, 7)

    def test_a_rejected_version_gives_way_to_the_one_before(self, harness: Harness) -> None:
        """A newest version that is bad does not take the good older ones with it."""
        outcomes = _deliver(
            harness,
            [
                harness.record(0, 0),
                harness.record(0, 1),
                harness.refused_record(0, 3),
                harness.refused_record(0, 2),
                harness.record(1, 0),
            ],
        )
        assert [type(one) for one in outcomes] == [
            Superseded,
            Delivered,
            Rejected,
            Rejected,
            Delivered,
        ]
        assert sorted(harness.accepted()) == [(0, 1), (1, 0)]
