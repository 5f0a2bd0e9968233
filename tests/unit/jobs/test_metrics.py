"""Promises of the catalogue of metrics: complete, documented, and true of the code."""

from __future__ import annotations

import pytest

from connectors.delivery.metrics import CATALOGUE, DeliveryMetrics
from deploy.local.settings import PROJECT
from jobs.metrics import (
    DEAD_LETTERS,
    DECODE,
    DELIVERY,
    FLOWS,
    HOLD,
    SECTIONS,
    aggregation,
    dead_letter_values,
    engine_values,
    function_and_name,
)


def test_a_name_is_in_a_section_once() -> None:
    """And every line says what it is."""
    for title, metrics in SECTIONS:
        names = [metric.name for metric in metrics]
        assert len(names) == len(set(names)), title
        assert all(metric.unit and metric.meaning for metric in metrics)


def test_every_number_of_the_engine_is_shown() -> None:
    """A metric added to the engine is in the catalogue, beside the size of batches."""
    shown = {metric.name for metric in DELIVERY}
    for metric in CATALOGUE:
        if metric.name != "batch_size":
            assert any(name.startswith(metric.name) for name in shown), metric.name


def test_what_the_engine_shows_is_what_the_catalogue_has() -> None:
    """The same names, as whole numbers."""
    values = engine_values(DeliveryMetrics().snapshot(), {})
    dead_letters = {metric.name for metric in DEAD_LETTERS}
    assert set(values) == {metric.name for metric in DELIVERY} - dead_letters
    assert all(type(value) is int for value in values.values())


def test_units_are_in_the_names_and_hold() -> None:
    """Half a second is 500 ms, half a call a second is 30 calls a minute."""
    metrics = DeliveryMetrics()
    metrics.oldest_age = 0.5
    metrics.rate_limit = 0.5
    metrics.call_latency.add(0.03)
    values = engine_values(metrics.snapshot(), {})
    assert values["oldest_age_ms"] == 500
    assert values["rate_limit_per_minute"] == 30
    assert values["call_latency_p99_ms"] == 30


def test_counters_count_from_the_start_of_the_job_and_gauges_are_as_they_are() -> None:
    """An engine outlives the job: what it delivered for a former one is not this one's."""
    metrics = DeliveryMetrics()
    metrics.delivered, metrics.waiting = 100, 5
    before = metrics.snapshot()
    metrics.delivered, metrics.waiting = 130, 7
    values = engine_values(metrics.snapshot(), before)
    assert (values["delivered"], values["waiting"]) == (30, 7)


def test_a_function_that_does_not_show_the_engine_shows_zeros() -> None:
    """All names, so that Flink has them, and nothing to add up."""
    metrics = DeliveryMetrics()
    metrics.delivered = 3
    values = engine_values(metrics.snapshot(), {}, shown=False)
    assert set(values.values()) == {0}
    assert set(values) == set(engine_values(metrics.snapshot(), {}))


def test_dead_letters_are_counted_together_and_by_code() -> None:
    """A service's code has characters that a metric's name may not."""
    values = dead_letter_values(
        [{"oversize": 2}, {"personalize.ValidationException": 1, "oversize": 1}]
    )
    assert values == {
        "dead_letters": 4,
        "dead_letters_oversize": 3,
        "dead_letters_personalize_ValidationException": 1,
    }
    assert dead_letter_values([{}]) == {"dead_letters": 0}


@pytest.mark.parametrize(
    ("identifier", "found"),
    [
        (
            "kinesisanalytics.tunemesh.function.deliver_events.delivered",
            ("deliver_events", "delivered"),
        ),
        (
            "PythonCalc[2].kinesisanalytics.tunemesh.function.decode_user.decoded",
            ("decode_user", "decoded"),
        ),
        ("PythonCalc[2].numRecordsIn", None),
    ],
)
def test_a_metric_is_recognized_in_thread_and_in_process_mode(
    identifier: str, found: tuple[str, str] | None
) -> None:
    """Of a task there, of an operator here."""
    assert function_and_name(identifier) == found


def test_flows_name_tables_and_functions_of_the_sql() -> None:
    """A renamed table or function would vanish from `tunemesh status`."""
    for flow in FLOWS:
        text = (PROJECT / "jobs" / f"{flow.pipeline}.sql").read_text(encoding="utf-8")
        assert f"FROM {flow.table}" in text, flow
        assert f"{flow.function}(" in text, flow


def test_names_of_functions_that_decode() -> None:
    """What :class:`jobs.decode_functions.DecodeInteraction` shows is in the catalogue."""
    names = [metric.name for metric in (*DECODE, *HOLD)]
    assert {"decoded", "held", "held_ms", "holding_ms", "freshness_lag_ms", "given_up"} <= set(
        names
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("decoded", "sum"),
        ("held_ms", "sum"),
        ("holding_ms", "max"),
        ("oldest_age_ms", "max"),
        ("waiting", "sum"),
        ("freshness_exact", "min"),
    ],
)
def test_values_of_subtasks_become_one(name: str, expected: str) -> None:
    """Numbers add up, the greatest age counts, and one worker that estimates is enough."""
    assert aggregation(name) == expected
