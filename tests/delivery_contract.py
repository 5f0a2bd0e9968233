"""What every destination has to do together with the engine, whatever it is.

A destination's test module subclasses `DestinationContract` and says in `harness` how to make
records and how to make its service fail. Everything runs in virtual time, without a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Literal, Protocol

import pytest

from connectors.delivery import (
    Delivered,
    DeliveryClosedError,
    DeliveryEngine,
    DeliverySettings,
    Destination,
    FatalDeliveryError,
    Rejected,
)
from tests.delivery_fakes import VirtualClock, run

Trouble = Literal["throttled", "server error", "connection lost", "hanging", "fatal"]


class Harness(Protocol):
    """A destination, with a service behind it that can be told to fail."""

    @property
    def destination(self) -> Destination[Any, Any]: ...

    @property
    def most_in_flight(self) -> int: ...

    @property
    def calls(self) -> int:
        """Calls that reached the service."""

    def record(self, key: int, number: int) -> Any:
        """A good record, the `number`-th of its order key. Records of one key may share a call."""

    def refused_record(self, key: int, number: int) -> Any:
        """A record that only the service finds to be bad."""

    def oversize_record(self, key: int, number: int) -> Any:
        """A record above the limit of the destination."""

    def accepted(self) -> list[tuple[int, int]]:
        """(key, number) of the records that the service accepted, in order."""

    def fail_next(self, calls: int, trouble: Trouble) -> None:
        """The next calls meet this trouble; then all is well again."""


Test = Callable[[DeliveryEngine[Any, Any]], Any]


def _in_order(accepted: list[tuple[int, int]]) -> bool:
    newest: dict[int, int] = {}
    for key, number in accepted:
        if number <= newest.get(key, -1):
            return False
        newest[key] = number
    return True


def _deliver(harness: Harness, records: list[Any], **settings: Any) -> list[Delivered | Rejected]:
    async def main() -> list[Delivered | Rejected]:
        async with _engine(harness, **settings) as engine:
            return await engine.deliver(records)

    return run(main())


def _engine(harness: Harness, **settings: Any) -> DeliveryEngine[Any, Any]:
    return DeliveryEngine(
        harness.destination,
        random=Random(7),
        clock=VirtualClock(),
        settings=DeliverySettings(**settings),
    )


class DestinationContract:
    """Subclass it, and give `harness`."""

    @pytest.fixture
    def harness(self) -> Harness:
        raise NotImplementedError

    def test_everything_is_delivered_once_and_in_order(self, harness: Harness) -> None:
        """Without trouble each record arrives exactly once, in the order of its key."""
        records = [harness.record(key, number) for number in range(23) for key in range(7)]
        assert _deliver(harness, records) == [Delivered()] * len(records)
        assert len(harness.accepted()) == len(set(harness.accepted())) == len(records)
        assert _in_order(harness.accepted())

    def test_records_share_calls(self, harness: Harness) -> None:
        """Records of one key fill the calls up to the destination's limit."""
        most = harness.destination.limits.max_records
        _deliver(harness, [harness.record(0, number) for number in range(2 * most)])
        assert harness.calls == 2

    def test_calls_in_flight_are_bounded(self, harness: Harness) -> None:
        """Many keys are sent side by side, up to the bound and never above."""
        most = harness.destination.limits.max_in_flight
        _deliver(harness, [harness.record(key, 0) for key in range(5 * most)])
        assert harness.most_in_flight == most

    @pytest.mark.parametrize("trouble", ["throttled", "server error", "connection lost", "hanging"])
    def test_passing_trouble_loses_nothing(self, harness: Harness, trouble: Trouble) -> None:
        """However many calls fail for a passing reason, every record arrives, in order."""
        harness.fail_next(40, trouble)
        records = [harness.record(key, number) for number in range(12) for key in range(3)]
        assert _deliver(harness, records) == [Delivered()] * len(records)
        assert sorted(set(harness.accepted())) == [(k, n) for k in range(3) for n in range(12)]
        assert _in_order(harness.accepted())

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
        """Whichever records of a batch the service refuses, the others arrive, in order."""
        records = [
            harness.refused_record(0, number) if number in bad else harness.record(0, number)
            for number in range(10)
        ]
        outcomes = _deliver(harness, records)
        assert {n for n, outcome in enumerate(outcomes) if isinstance(outcome, Rejected)} == bad
        assert all(
            outcome.code and outcome.message and not outcome.whole_call
            for outcome in outcomes
            if isinstance(outcome, Rejected)
        )
        assert harness.accepted() == [(0, number) for number in range(10) if number not in bad]

    def test_an_oversize_record_is_rejected_unsent(self, harness: Harness) -> None:
        """What the destination could never take costs no call and holds up nobody."""
        outcomes = _deliver(
            harness,
            [
                harness.oversize_record(0, 0),
                harness.record(0, 1),
                harness.oversize_record(1, 0),
                harness.record(0, 2),
            ],
        )
        assert [type(one) for one in outcomes] == [Rejected, Delivered, Rejected, Delivered]
        assert harness.calls == 1
        assert harness.accepted() == [(0, 1), (0, 2)]

    def test_a_fatal_answer_stops_with_a_message(self, harness: Harness) -> None:
        """Every waiting caller gets an error that names the destination and says what to do."""

        async def main() -> None:
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

        run(main())
        assert harness.accepted() == []

    def test_cancellation_stops_the_calls_and_leaves_the_engine_usable(
        self, harness: Harness
    ) -> None:
        """A cancelled caller's calls end with it; others are served as if it had not been."""

        async def main() -> None:
            harness.fail_next(4, "hanging")
            engine = _engine(harness)
            doomed = asyncio.ensure_future(
                engine.deliver([harness.record(key, 0) for key in range(4)])
            )
            await asyncio.sleep(0.5)
            assert engine.snapshot()["in_flight"] == 4
            doomed.cancel()
            with pytest.raises(asyncio.CancelledError):
                await doomed
            await asyncio.sleep(0)
            state = engine.snapshot()
            assert (state["in_flight"], state["waiting"], state["abandoned"]) == (0, 0, 4)
            assert (
                await engine.deliver([harness.record(key, 1) for key in range(4)])
                == [Delivered()] * 4
            )

        run(main())
        assert sorted(harness.accepted()) == [(key, 1) for key in range(4)]

    def test_drain_waits_and_close_refuses(self, harness: Harness) -> None:
        """After drain everything has arrived; after close nothing more is taken."""

        async def main() -> None:
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

        run(main())
