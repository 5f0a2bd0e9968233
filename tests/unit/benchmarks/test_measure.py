"""Rates, ratios and percentiles of given timestamps."""

from __future__ import annotations

import pytest

from benchmarks.latency import stage
from benchmarks.measure import (
    Appended,
    Run,
    busiest_second,
    percentile,
    rates,
    ratio_to_best,
    ratios_to_neighbours,
)


def steady(start_ms: int, seconds: int, per_ms: int) -> list[tuple[int, int]]:
    """Return an output of ``per_ms`` records each millisecond."""
    return [(start_ms + ms, per_ms) for ms in range(seconds * 1000)]


def test_the_rate_of_a_steady_output() -> None:
    """50 records per millisecond are 50,000 per second, in every part of the output."""
    measured = rates(Appended.from_counts(steady(10_000, 10, 50)), started_ms=2_000, ready_ms=8_000)
    assert measured.steady == pytest.approx(50_000)
    assert measured.output == pytest.approx(50_000)
    assert measured.records == 500_000
    assert measured.seconds_from_ready == pytest.approx(11.999)
    assert measured.seconds_from_start == pytest.approx(17.999)


def test_the_steady_rate_excludes_the_beginning_and_the_end() -> None:
    """The first fifth and the last tenth of the output are not part of it."""
    head = [(ms * 100, 1) for ms in range(100)]
    middle = steady(10_000, 1, 1)
    tail = [(11_000 + ms * 100, 1) for ms in range(50)]
    measured = rates(Appended.from_counts(head + middle + tail), started_ms=0, ready_ms=0)
    assert measured.steady == pytest.approx(1000, rel=0.01)
    assert measured.output < 100


def test_order_and_splitting_of_counts_make_no_difference() -> None:
    """The counts of two partitions are one output."""
    combined = Appended.from_counts([(1, 4), (2, 6), (3, 5)])
    parts = Appended.from_counts([(3, 5), (1, 1), (2, 6), (1, 3)])
    assert combined == parts
    assert (combined.total, combined.first_ms, combined.last_ms) == (15, 1, 3)


def test_an_output_within_a_millisecond_has_no_rate() -> None:
    """It is too short to measure."""
    with pytest.raises(ValueError, match="too few"):
        rates(Appended.from_counts([(5, 1000)]), started_ms=0, ready_ms=0)


def test_a_run_is_compared_with_the_baseline_before_and_after_it() -> None:
    """The ratio does not change when the machine becomes slower."""
    runs = [
        Run("java-rocksdb", "rocksdb", 200.0),
        Run("ours", "rocksdb", 75.0),
        Run("java-rocksdb", "rocksdb", 100.0),
        Run("ours", "rocksdb", 50.0),
        Run("java-rocksdb", "rocksdb", 100.0),
    ]
    assert ratios_to_neighbours(runs, "ours", "java-rocksdb") == pytest.approx((0.5, 0.5))


def test_only_runs_of_the_same_pair_are_compared() -> None:
    """A run on RocksDB is not compared with a baseline on the heap."""
    runs = [
        Run("java", "hashmap", 1000.0),
        Run("ours", "rocksdb", 50.0),
        Run("java", "rocksdb", 100.0),
    ]
    assert ratios_to_neighbours(runs, "ours", "java") == (0.5,)
    assert ratios_to_neighbours(runs[:2], "ours", "java") == ()


def test_the_ratio_to_the_best_run_of_other_systems() -> None:
    """The median of ours to the best run of the others; None if one side has no run."""
    runs = [Run("ours", "r", rate) for rate in (10.0, 30.0, 20.0)]
    runs += [Run("naive-thread", "r", 5.0), Run("naive-process", "r", 1.0)]
    assert ratio_to_best(runs, "ours", ("naive-thread", "naive-process")) == pytest.approx(4.0)
    assert ratio_to_best(runs, "ours", ("bytewax",)) is None


def test_percentiles_by_nearest_rank() -> None:
    """The p99 of 100 values is the 99th; of a single value it is that value."""
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_latency_counts_missing_events() -> None:
    """Missing events have no latency; clocks may differ by a millisecond."""
    published = {"a": 100.0, "b": 200.0, "c": 300.4}
    measured = stage(published, {"a": 110.0, "c": 300.0, "other": 5.0})
    assert (measured.arrived, measured.missing) == (2, 1)
    assert (measured.p50_ms, measured.p99_ms, measured.max_ms) == (0.0, 10.0, 10.0)
    assert stage(published, {}).p99_ms is None


@pytest.mark.parametrize(
    ("times", "highest"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 0.5, 1.0, 1.5], 2),
        ([0.9, 0.95, 1.05, 1.1, 7.0], 4),
        ([0.0, 0.0, 0.0, 1.0], 3),
    ],
)
def test_the_busiest_second_can_begin_at_any_time(times: list[float], highest: int) -> None:
    """Not only at a full second."""
    assert busiest_second(times) == highest
