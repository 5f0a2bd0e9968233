"""Rates, ratios and percentiles of timestamps. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

STEADY_FROM, STEADY_TO = 0.2, 0.9


@dataclass(frozen=True, slots=True)
class Appended:
    """Numbers of records by the time of their append: ``(milliseconds, count)``, ascending."""

    counts: tuple[tuple[int, int], ...]

    @classmethod
    def from_counts(cls, counts: Iterable[tuple[int, int]]) -> Appended:
        """Create it from pairs in any order; counts of equal milliseconds are added up."""
        total: dict[int, int] = {}
        for at, count in counts:
            total[at] = total.get(at, 0) + count
        return cls(tuple(sorted(total.items())))

    @property
    def total(self) -> int:
        """The number of records."""
        return sum(count for _, count in self.counts)

    @property
    def first_ms(self) -> int:
        """When the first record was appended."""
        return self.counts[0][0]

    @property
    def last_ms(self) -> int:
        """When the last record was appended."""
        return self.counts[-1][0]


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of a run in records per second, and times in seconds.

    ``steady`` is the rate between 20% and 90% of the output, which ratios use. ``output`` is the
    rate from the first to the last record. ``seconds_from_ready`` is the time from when the job
    could read interactions (see :mod:`benchmarks.enrichment`) to the last record,
    ``seconds_from_start`` from the start of its first process.
    """

    records: int
    steady: float
    output: float
    seconds_from_ready: float
    seconds_from_start: float


def rates(appended: Appended, started_ms: int, ready_ms: int) -> Rates:
    """Return the rates of a run; raises ValueError if its output is too short to measure."""
    lower, upper = _reached(appended, STEADY_FROM), _reached(appended, STEADY_TO)
    elapsed = appended.last_ms - appended.first_ms
    if upper[0] <= lower[0] or elapsed <= 0:
        raise ValueError(
            f"{appended.total} records within {elapsed} ms are too few to measure a rate"
        )
    return Rates(
        records=appended.total,
        steady=(upper[1] - lower[1]) * 1000 / (upper[0] - lower[0]),
        output=(appended.total - appended.counts[0][1]) * 1000 / elapsed,
        seconds_from_ready=(appended.last_ms - ready_ms) / 1000,
        seconds_from_start=(appended.last_ms - started_ms) / 1000,
    )


def _reached(appended: Appended, share: float) -> tuple[int, int]:
    """When this fraction of the records had been appended, and how many had been then."""
    target = share * appended.total
    running = accumulate(count for _, count in appended.counts)
    for (at, _), count in zip(appended.counts, running, strict=True):
        if count >= target:
            return at, count
    raise AssertionError("the last running total is the total")


@dataclass(frozen=True, slots=True)
class Run:
    """The rate of a run; only runs of the same ``pair`` are compared."""

    system: str
    pair: str
    rate: float


def ratios_to_neighbours(runs: Sequence[Run], system: str, baseline: str) -> tuple[float, ...]:
    """Return the ratio of each run of a system to the mean of the baseline's neighbouring runs.

    The neighbours are the runs of the same pair directly before and after it. The speed of a shared
    machine changes by up to a third within minutes, and least between neighbours. With one
    neighbour the ratio is to that one; without neighbours there is no ratio.
    """
    ratios = []
    for at, run in enumerate(runs):
        if run.system != system:
            continue
        before = _first_rate(runs[:at][::-1], baseline, run.pair)
        after = _first_rate(runs[at + 1 :], baseline, run.pair)
        neighbours = [rate for rate in (before, after) if rate is not None]
        if neighbours:
            ratios.append(run.rate * len(neighbours) / sum(neighbours))
    return tuple(ratios)


def _first_rate(runs: Sequence[Run], system: str, pair: str) -> float | None:
    return next((run.rate for run in runs if run.system == system and run.pair == pair), None)


def ratio_to_best(runs: Sequence[Run], system: str, others: Iterable[str]) -> float | None:
    """Return the ratio of a system's median rate to the best rate of others; None without runs."""
    rates = [run.rate for run in runs if run.system == system]
    names = frozenset(others)
    other_rates = [run.rate for run in runs if run.system in names]
    return median(rates) / max(other_rates) if rates and other_rates else None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this fraction of the values does not exceed."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def busiest_second(times: Sequence[float]) -> int:
    """Return the highest number of times (seconds, ascending) within one second, end excluded."""
    highest = first = 0
    for number, time in enumerate(times):
        while time - times[first] >= 1.0:
            first += 1
        highest = max(highest, number - first + 1)
    return highest
