"""Rates, ratios and percentiles: arithmetic on timestamps and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

STEADY_FROM, STEADY_TO = 0.2, 0.9


@dataclass(frozen=True, slots=True)
class Appended:
    """How many records were appended at each millisecond: ``(milliseconds, count)``, ascending."""

    counts: tuple[tuple[int, int], ...]

    @classmethod
    def from_counts(cls, counts: Iterable[tuple[int, int]]) -> Appended:
        """From pairs in any order; equal milliseconds are added up."""
        total: dict[int, int] = {}
        for at, count in counts:
            total[at] = total.get(at, 0) + count
        return cls(tuple(sorted(total.items())))

    @property
    def total(self) -> int:
        """How many records there are."""
        return sum(count for _, count in self.counts)

    @property
    def first_ms(self) -> int:
        """When the first was appended."""
        return self.counts[0][0]

    @property
    def last_ms(self) -> int:
        """When the last was appended."""
        return self.counts[-1][0]


@dataclass(frozen=True, slots=True)
class Rates:
    """A run in numbers: rates in records a second, times in seconds.

    ``steady`` is the rate between 20% and 90% of the output: what ratios are made of. ``output``
    is the rate from the first to the last record. ``seconds_from_ready`` is from the moment when
    the job could begin with the interactions (see :mod:`benchmarks.enrichment`) to the last
    record, ``seconds_from_start`` from the start of its first process.
    """

    records: int
    steady: float
    output: float
    seconds_from_ready: float
    seconds_from_start: float


def rates(appended: Appended, started_ms: int, ready_ms: int) -> Rates:
    """Rates of a run; raises ValueError when its output took no measurable time."""
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
    """When that share of the records was there, and how many there were by then."""
    wanted = share * appended.total
    running = accumulate(count for _, count in appended.counts)
    for (at, _), count in zip(appended.counts, running, strict=True):
        if count >= wanted:
            return at, count
    raise AssertionError("the last running total is the total")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one system, in the order in which they ran; ``pair`` matches runs to compare."""

    system: str
    pair: str
    rate: float


def ratios_to_neighbours(runs: Sequence[Run], numerator: str, yardstick: str) -> tuple[float, ...]:
    """Each run of ``numerator`` over the mean of the yardstick's runs just before and after it.

    Only runs of the same pair count. The speed of a machine that others use drifts, within a run
    of minutes by a third: neighbours saw about the same machine. With a yardstick on one side
    only, that one is taken; with none at all there is no ratio.
    """
    found = []
    for at, run in enumerate(runs):
        if run.system != numerator:
            continue
        before = _first(runs[:at][::-1], yardstick, run.pair)
        after = _first(runs[at + 1 :], yardstick, run.pair)
        neighbours = [rate for rate in (before, after) if rate is not None]
        if neighbours:
            found.append(run.rate * len(neighbours) / sum(neighbours))
    return tuple(found)


def _first(runs: Sequence[Run], system: str, pair: str) -> float | None:
    return next((run.rate for run in runs if run.system == system and run.pair == pair), None)


def ratio_to_best(runs: Sequence[Run], numerator: str, others: Iterable[str]) -> float | None:
    """The median of a system's rates over the best rate of the others; None when one is missing."""
    ours = [run.rate for run in runs if run.system == numerator]
    names = frozenset(others)
    theirs = [run.rate for run in runs if run.system in names]
    return median(ours) / max(theirs) if ours and theirs else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of the values does not exceed."""
    if not values:
        raise ValueError("there is no percentile of no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def busiest_second(times: Sequence[float]) -> int:
    """The most moments, in seconds and ascending, within any one second (its end not included)."""
    most = first = 0
    for number, moment in enumerate(times):
        while moment - times[first] >= 1.0:
            first += 1
        most = max(most, number - first + 1)
    return most
