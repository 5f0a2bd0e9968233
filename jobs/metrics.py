"""The catalogue of metrics: every metric of an application, and its meaning.

Those of Python are gauges among Flink's metrics (:mod:`connectors.flink.internals.gauges`): in its
REST API and web UI, in Prometheus, in CloudWatch. Their names there end with

    kinesisanalytics.tunemesh.function.<function>.<name>

Managed Flink exports the group ``kinesisanalytics``. All are whole numbers, because in process mode
PyFlink has no others. A counter counts from the last (re)start of the job's tasks.

docs/reference/metrics.md is generated from the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connectors.delivery.metrics import CATALOGUE, Metric
from connectors.flink.metric_group import GROUPS, LABEL


@dataclass(frozen=True, slots=True)
class Flow:
    """A source of a pipeline: its table, and the function that is called for each record.

    ``label`` is its name in ``tunemesh status``: the records, or their destination. ``group`` is
    the end of the consumer group's name, after the application's group.id.
    """

    pipeline: str
    table: str
    function: str
    label: str
    group: str


FLOWS = (
    Flow("enrichment", "enrichment_users", "decode_user", "users", "enrichment"),
    Flow("enrichment", "enrichment_items", "decode_item", "items", "enrichment"),
    Flow(
        "enrichment", "enrichment_interactions", "decode_interaction", "interactions", "enrichment"
    ),
    Flow(
        "recommendations",
        "recommendations_enriched",
        "deliver_events",
        "PutEvents",
        "recommendations",
    ),
    Flow(
        "recommendations", "recommendations_users", "deliver_users", "PutUsers", "recommendations"
    ),
    Flow(
        "recommendations", "recommendations_items", "deliver_items", "PutItems", "recommendations"
    ),
    Flow("analytics", "analytics_archive", "archive_events", "Firehose", "analytics-archive"),
    Flow("analytics", "analytics_search", "index_events", "OpenSearch events", "analytics-search"),
    Flow("analytics", "analytics_trends", "index_trends", "OpenSearch trends", "analytics-trends"),
)

DEAD_LETTERS = (
    Metric(
        "dead_letters", "counter", "records", "records that the function could not use or deliver"
    ),
    Metric(
        "dead_letters_<code>", "counter", "records", "the same by the code in the dead letter; "
        "only codes that have occurred"
    ),
    Metric(
        "dead_letter_limit_reached", "gauge", "functions", "the limit on dead letters has stopped "
        "the pipeline and stops it again at the next dead letter"
    ),
)  # fmt: skip

DECODE = (
    Metric("decoded", "counter", "records", "decoded and passed on"),
    *DEAD_LETTERS,
)

CLOCKS = (
    Metric(
        "clock_ahead",
        "counter",
        "records",
        "users or items whose updated_at is more than five "
        "minutes after their publication: a producer's clock is ahead",
    ),
)
"""Metrics of decode_user and decode_item alone."""

HOLD = (
    Metric("held", "counter", "events", "events that waited for dimension records"),
    Metric("held_ms", "counter", "milliseconds", "total time for which events have waited"),
    Metric("holding_ms", "gauge", "milliseconds", "wait of the present event; 0: none waits"),
    Metric(
        "freshness_lag_ms", "gauge", "milliseconds", "age of the freshness watermark, the time up "
        "to which all users and items are known to have been read; 0 until there is one"
    ),
    Metric(
        "given_up", "gauge", "partitions", "partitions of users and items with an unread rest "
        "that events no longer wait for"
    ),
    Metric(
        "released_by_timeout", "counter", "events", "events that passed after a time-out, although "
        "users or items published before them may not have been read"
    ),
    Metric(
        "freshness_exact", "gauge", "0 or 1", "1: a restarted job takes its read positions from "
        "its restored state; 0: it estimates them (process mode, or an unknown version of Flink)"
    ),
    Metric(
        "clock_skew_ms", "gauge", "milliseconds", "by how much a worker's clock is ahead of the "
        "brokers' at the least, of all workers the greatest; negative: behind; 0: they may be equal"
    ),
)  # fmt: skip
"""Metrics of decode_interaction alone."""

FLINK = (
    Metric(
        "numRecordsInPerSecond", "meter", "records/second", "records read, mean of the last minute"
    ),
    Metric(
        "currentOffset", "gauge", "offset", "offset of the record read last, by topic and partition"
    ),
    Metric("numRestarts", "counter", "times", "restarts of the job"),
    Metric(
        "lastCheckpointDuration",
        "gauge",
        "milliseconds",
        "duration of the last complete checkpoint",
    ),
    Metric("lastCheckpointSize", "gauge", "bytes", "size of the last complete checkpoint"),
)
"""Flink's own (Java), as far as ``tunemesh status`` shows them."""


def _exported(metric: Metric) -> dict[str, tuple[Metric, float]]:
    """The Flink metrics of a metric of the sink engine, each with a factor, by snapshot entry.

    The unit is in the name, so that the value can be a whole number.
    """
    if metric.kind == "histogram":
        if metric.unit != "seconds":
            return {}  # delivered / calls is its mean
        return {
            f"{metric.name}_{p}": (
                Metric(f"{metric.name}_{p}_ms", "gauge", "milliseconds", metric.meaning),
                1000.0,
            )
            for p in ("p50", "p99")
        }
    if metric.unit == "seconds":
        shown = Metric(f"{metric.name}_ms", metric.kind, "milliseconds", metric.meaning)
        return {metric.name: (shown, 1000.0)}
    if metric.unit == "calls/second":
        shown = Metric(f"{metric.name}_per_minute", metric.kind, "calls/minute", metric.meaning)
        return {metric.name: (shown, 60.0)}
    return {metric.name: (metric, 1.0)}


_FROM_ENGINE = {key: value for metric in CATALOGUE for key, value in _exported(metric).items()}

DELIVERY = (*(metric for metric, _ in _FROM_ENGINE.values()), *DEAD_LETTERS)
"""Metrics of each delivery function: the sink engine's, and dead letters."""


def engine_values(
    snapshot: Mapping[str, float], before: Mapping[str, float], *, shown: bool = True
) -> dict[str, int]:
    """A snapshot of a sink engine under the names of ``DELIVERY``.

    Counters count from the snapshot ``before``. All are 0 unless ``shown``.
    """
    values = {}
    for key, (metric, factor) in _FROM_ENGINE.items():
        value = snapshot[key] - (before.get(key, 0) if metric.kind == "counter" else 0)
        values[metric.name] = round(value * factor) if shown else 0
    return values


def dead_letter_values(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The number of dead letters, in all and by code; ``counts``: by code, each above 0."""
    values = {"dead_letters": 0}
    for by_code in counts:
        for code, number in tuple(by_code.items()):
            name = "dead_letters_" + re.sub(r"\W", "_", code)
            values["dead_letters"] += number
            values[name] = values.get(name, 0) + number
    return values


_IDENTIFIER = re.compile(rf"(?:^|\.){GROUPS[0]}\.{GROUPS[1]}\.{LABEL}\.(\w+)\.(\w+)$")


def function_and_name(identifier: str) -> tuple[str, str] | None:
    """The function and the metric's name in Flink's name of a metric; None for Flink's own."""
    match = _IDENTIFIER.search(identifier)
    return None if match is None else (match[1], match[2])


def aggregation(name: str) -> str:
    """Return how the values of a function's metric become one over its subtasks.

    Counters, and gauges of what there is, are summed; of ages and latencies the greatest counts,
    and freshness is exact where it is exact on every worker.
    """
    if name == "freshness_exact":
        return "min"
    return "max" if name.endswith("_ms") and name != "held_ms" else "sum"


SECTIONS: tuple[tuple[str, tuple[Metric, ...]], ...] = (
    ("Decode functions: `decode_user`, `decode_item`, `decode_interaction`", DECODE),
    ("Clocks: `decode_user`, `decode_item`", CLOCKS),
    ("Freshness: `decode_interaction`", HOLD),
    (
        (
            "Delivery functions: `deliver_events`, `deliver_users`, `deliver_items`,"
            " `archive_events`, `index_events`, `index_trends`"
        ),
        DELIVERY,
    ),
    ("Flink's own (Java), as far as `tunemesh status` shows them", FLINK),
)
"""Which functions have which metrics."""
