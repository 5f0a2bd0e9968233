"""The metrics of the engine; jobs/metrics.py exports them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
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

    __slots__ = ("bounds", "count", "counts", "maximum", "total")

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


class DeliveryMetrics:
    """The counters and histograms of one engine; plain attributes, named as in the catalogue."""

    __slots__ = (
        "abandoned",
        "batch_size",
        "bisected",
        "call_latency",
        "calls",
        "delivered",
        "delivery_latency",
        "in_flight",
        "oldest_age",
        "rate_limit",
        "rejected",
        "retried",
        "slowed_down",
        "superseded",
        "throttled",
        "timed_out",
        "waiting",
    )

    def __init__(self) -> None:
        self.delivered = 0
        self.rejected = 0
        self.superseded = 0
        self.retried = 0
        self.abandoned = 0
        self.calls = 0
        self.throttled = 0
        self.slowed_down = 0
        self.bisected = 0
        self.timed_out = 0
        self.waiting = 0
        self.in_flight = 0
        self.oldest_age = 0.0
        self.rate_limit = 0.0
        self.batch_size = Histogram(SIZE_BOUNDS)
        self.call_latency = Histogram(LATENCY_BOUNDS)
        self.delivery_latency = Histogram(LATENCY_BOUNDS)

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
