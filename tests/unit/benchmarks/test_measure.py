"""Rates and ratios are what they say, on logs made by hand."""

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
    """An output of ``per_ms`` records each millisecond."""
    return [(start_ms + ms, per_ms) for ms in range(seconds * 1000)]


def test_a_steady_output_has_its_own_rate() -> None:
    """50 records a millisecond are 50,000 a second, whatever part of it is looked at."""
    found = rates(Appended.from_counts(steady(10_000, 10, 50)), started_ms=2_000, ready_ms=8_000)
    assert found.steady == pytest.approx(50_000)
    assert found.output == pytest.approx(50_000)
    assert found.records == 500_000
    assert found.seconds_from_ready == pytest.approx(11.999)
    assert found.seconds_from_start == pytest.approx(17.999)


def test_slow_beginnings_and_ends_do_not_count_as_steady() -> None:
    """The first fifth and the last tenth may crawl: the steady rate is that of the middle."""
    crawl = [(ms * 100, 1) for ms in range(100)]
    middle = steady(10_000, 1, 1)
    tail = [(11_000 + ms * 100, 1) for ms in range(50)]
    found = rates(Appended.from_counts(crawl + middle + tail), started_ms=0, ready_ms=0)
    assert found.steady == pytest.approx(1000, rel=0.01)
    assert found.output < 100


def test_order_and_splitting_of_counts_make_no_difference() -> None:
    """Two partitions are read one after the other; their counts are one output."""
    whole = Appended.from_counts([(1, 4), (2, 6), (3, 5)])
    parts = Appended.from_counts([(3, 5), (1, 1), (2, 6), (1, 3)])
    assert whole == parts
    assert (whole.total, whole.first_ms, whole.last_ms) == (15, 1, 3)


def test_an_output_of_one_moment_has_no_rate() -> None:
    """A division by nearly nothing would be reported as a marvellous rate."""
    with pytest.raises(ValueError, match="too few"):
        rates(Appended.from_counts([(5, 1000)]), started_ms=0, ready_ms=0)


def test_a_run_is_compared_with_the_yardstick_before_and_after_it() -> None:
    """A machine that slows down by half must not halve or double a ratio."""
    runs = [
        Run("java-rocksdb", "rocksdb", 200.0),
        Run("ours", "rocksdb", 75.0),
        Run("java-rocksdb", "rocksdb", 100.0),
        Run("ours", "rocksdb", 50.0),
        Run("java-rocksdb", "rocksdb", 100.0),
    ]
    assert ratios_to_neighbours(runs, "ours", "java-rocksdb") == pytest.approx((0.5, 0.5))


def test_only_runs_of_the_same_pair_are_compared() -> None:
    """RocksDB is never measured against a yardstick on the heap."""
    runs = [
        Run("java", "hashmap", 1000.0),
        Run("ours", "rocksdb", 50.0),
        Run("java", "rocksdb", 100.0),
    ]
    assert ratios_to_neighbours(runs, "ours", "java") == (0.5,)
    assert ratios_to_neighbours(runs[:2], "ours", "java") == ()


def test_others_are_compared_at_their_best() -> None:
    """The median of ours over the best run of the others; nothing when one side did not run."""
    runs = [Run("ours", "r", rate) for rate in (10.0, 30.0, 20.0)]
    runs += [Run("naive-thread", "r", 5.0), Run("naive-process", "r", 1.0)]
    assert ratio_to_best(runs, "ours", ("naive-thread", "naive-process")) == pytest.approx(4.0)
    assert ratio_to_best(runs, "ours", ("bytewax",)) is None


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank: p99 of 100 values is the 99th, of one value that one."""
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_latency_counts_what_never_arrived() -> None:
    """An event that is missing is not a fast one, and clocks may differ by a millisecond."""
    published = {"a": 100.0, "b": 200.0, "c": 300.4}
    found = stage(published, {"a": 110.0, "c": 300.0, "other": 5.0})
    assert (found.arrived, found.missing) == (2, 1)
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (0.0, 10.0, 10.0)
    assert stage(published, {}).p99_ms is None


@pytest.mark.parametrize(
    ("times", "most"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 0.5, 1.0, 1.5], 2),
        ([0.9, 0.95, 1.05, 1.1, 7.0], 4),
        ([0.0, 0.0, 0.0, 1.0], 3),
    ],
)
def test_the_busiest_second_may_begin_anywhere(times: list[float], most: int) -> None:
    """Not only at whole seconds: a burst across one counts as a burst."""
    assert busiest_second(times) == most
