"""Promises of how a function's numbers become Flink's, outside of a JVM: as in process mode."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from connectors.flink.internals.gauges import Gauges
from jobs.delivery_functions import EngineThread
from tests.support.delivery_fakes import ScriptedDestination, fake_records


class Group:
    """A metric group as PyFlink has them: it asks a gauge for its value at the end of a bundle."""

    def __init__(self, path: tuple[str, ...], gauges: dict[str, Callable[[], int]]) -> None:
        self.path = path
        self.gauges = gauges

    def add_group(self, name: str, extra: str | None = None) -> Group:
        return Group((*self.path, name, *([extra] if extra else [])), self.gauges)

    def gauge(self, name: str, read: Callable[[], int]) -> None:
        self.gauges[".".join((*self.path, name))] = read


class Context:
    """A function's context; Flink's has no group where metrics are switched off."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.gauges: dict[str, Callable[[], int]] = {}
        self.enabled = enabled

    def get_metric_group(self) -> Group:
        if not self.enabled:
            raise RuntimeError("Metric has not been enabled.")
        return Group((), self.gauges)

    def values(self) -> dict[str, int]:
        return {name: read() for name, read in self.gauges.items()}


PREFIX = "kinesisanalytics.tunemesh.function.decode_user."


def test_gauges_are_in_the_group_that_managed_flink_hands_on() -> None:
    """With the function as a label, each with what the number is when Flink asks."""
    context, numbers = Context(), {"decoded": 1, "dead_letters": 0}
    gauges = Gauges("decode_user", lambda: dict(numbers), context)
    numbers["decoded"] = 7
    assert context.values() == {PREFIX + "decoded": 7, PREFIX + "dead_letters": 0}
    gauges.close()


def test_the_numbers_are_read_once_for_all_gauges() -> None:
    """Reading them may cost a round trip to the engine's thread."""
    reads: list[int] = []

    def read() -> dict[str, int]:
        reads.append(1)
        return {"one": 1, "two": 2, "three": 3}

    context = Context()
    gauges = Gauges("decode_user", read, context)
    reads.clear()
    context.values()
    assert len(reads) == 1
    gauges.close()


def test_a_number_that_comes_later_is_shown_after_grow() -> None:
    """The first dead letter of a code."""
    context, numbers = Context(), {"dead_letters": 0}
    gauges = Gauges("decode_user", lambda: dict(numbers), context)
    numbers |= {"dead_letters": 1, "dead_letters_oversize": 1}
    gauges.grow()
    assert context.values()[PREFIX + "dead_letters_oversize"] == 1
    gauges.close()


def test_where_flink_offers_no_metrics_there_are_none_and_nothing_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A line in the log says so."""
    with caplog.at_level(logging.WARNING):
        gauges = Gauges("decode_user", lambda: {"decoded": 1}, Context(enabled=False))
    assert "decode_user: no metrics" in caplog.text
    gauges.grow()
    gauges.close()


# An engine that several functions share.


@pytest.fixture
def engine() -> EngineThread:
    """An engine as a worker has it, and a destination that accepts all."""
    return EngineThread(lambda: ScriptedDestination(latency=0), 1.0)


def test_two_functions_of_one_engine_add_up_to_what_it_has_delivered(engine: EngineThread) -> None:
    """Whoever handed it over: one of them shows it, and the other when that one has closed."""
    first, second = object(), object()
    engine.join(first)
    engine.join(second)
    engine.deliver(fake_records(keys=2, each=2))

    assert engine.metrics(first)["delivered"] == 4
    assert engine.metrics(second)["delivered"] == 0
    assert engine.metrics(first).keys() == engine.metrics(second).keys()

    engine.leave(first)
    assert engine.metrics(second)["delivered"] == 4


def test_a_restarted_job_counts_from_nothing_on(engine: EngineThread) -> None:
    """The engine lives on in the worker; what it did for the former attempt is not counted."""
    former, present = object(), object()
    engine.join(former)
    engine.deliver(fake_records(keys=1, each=3))
    engine.leave(former)
    engine.join(present)
    engine.deliver(fake_records(keys=1, each=2))
    assert engine.metrics(present)["delivered"] == 2
    assert engine.metrics(former)["delivered"] == 0
