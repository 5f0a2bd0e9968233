"""The metrics of the engine; jobs/metrics.py exports them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the catalogue."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "meter"]
    unit: str
    meaning: str


CATALOGUE: tuple[Metric, ...] = (
    Metric("delivered", "counter", "records", "records accepted by the destination"),
    Metric("rejected", "counter", "records", "records refused permanently: dead letters"),
    Metric("superseded", "counter", "records", "records not sent: a newer version was accepted"),
    Metric("retried", "counter", "records", "sends that are repeated, counted per record"),
    Metric("abandoned", "counter", "records", "records without an outcome: cancelled or closed"),
    Metric("calls", "counter", "calls", "calls started"),
    Metric("throttled", "counter", "calls", "calls refused because they came too fast"),
    Metric("slowed_down", "counter", "times", "halvings of the rate"),
    Metric(
        "bisected", "counter", "calls", "refused calls whose batch was split to find the bad record"
    ),
    Metric("timed_out", "counter", "calls", "calls cancelled because no answer came"),
    Metric("waiting", "gauge", "records", "records accepted from the job, not in flight"),
    Metric("in_flight", "gauge", "calls", "calls in flight"),
    Metric("oldest_age", "gauge", "seconds", "age of the oldest unfinished deliver()"),
    Metric(
        "rate_limit", "gauge", "calls/second", "present rate limit, at most the share of the quota"
    ),
    Metric("batch_size", "histogram", "records", "records in a call"),
    Metric("call_latency", "histogram", "seconds", "time from the start of a call to its outcome"),
    Metric(
        "delivery_latency", "histogram", "seconds", "time from deliver() to the outcome of a record"
    ),
)

LATENCY_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
SIZE_BOUNDS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0)


class Histogram:
    """Counts by upper bound; the last count is for all that is above the last bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value
        self.maximum = max(self.maximum, value)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """An upper estimate: the bound of the bucket in which that share of the values is
        reached."""
        reached = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            reached += count
            if self.count and reached >= share * self.count:
                return min(bound, self.maximum)
        return self.maximum


@dataclass(slots=True)
class DeliveryMetrics:
    """The counters and histograms of one engine; plain attributes, named as in the catalogue."""

    delivered: int = 0
    rejected: int = 0
    superseded: int = 0
    retried: int = 0
    abandoned: int = 0
    calls: int = 0
    throttled: int = 0
    slowed_down: int = 0
    bisected: int = 0
    timed_out: int = 0
    waiting: int = 0
    in_flight: int = 0
    oldest_age: float = 0.0
    rate_limit: float = 0.0
    batch_size: Histogram = field(default_factory=lambda: Histogram(SIZE_BOUNDS))
    call_latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS))
    delivery_latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS))

    def snapshot(self) -> dict[str, float]:
        """Every metric by name; a histogram as its `_count`, `_mean`, `_p50`, `_p99` and `_max`."""
        values: dict[str, float] = {}
        for metric in CATALOGUE:
            value = getattr(self, metric.name)
            if isinstance(value, Histogram):
                values[f"{metric.name}_count"] = value.count
                values[f"{metric.name}_mean"] = value.mean
                values[f"{metric.name}_p50"] = value.quantile(0.5)
                values[f"{metric.name}_p99"] = value.quantile(0.99)
                values[f"{metric.name}_max"] = value.maximum
            else:
                values[metric.name] = value
        return values
