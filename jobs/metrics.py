"""The catalogue of metrics: every number that an application shows, and what it means.

Python's own are gauges among Flink's metrics (:mod:`connectors.flink.internals.gauges`), so they
are where Flink's are: in its REST API and web UI, in Prometheus, in CloudWatch. Their names there
end with

    kinesisanalytics.tunemesh.function.<function>.<name>

Managed Flink hands on what is in a group ``kinesisanalytics``. All are whole numbers, because in
process mode PyFlink has no others. A counter counts from the last (re)start of the job's tasks.

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
    """One way into a pipeline: the source table that is read, the function that each record meets.

    ``label`` is what people call it: the records that come, or the destination that they go to.
    ``group`` is what the source's consumer group is called behind the application's group.id.
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
)  # fmt: skip

DECODE = (
    Metric("decoded", "counter", "records", "decoded and passed on"),
    *DEAD_LETTERS,
)

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
)  # fmt: skip
"""Of decode_interaction alone."""

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
    """How Flink gets a metric of the sink engine: from which entry of its snapshot, as what, times
    what; its unit in its name, so that it can be a whole number."""
    if metric.kind == "histogram":
        if metric.unit != "seconds":
            return {}  # delivered / calls says it
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
"""Of each function that delivers: the sink engine's, and dead letters."""


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


def letter_values(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Dead letters, together and by code; of each code one or more have been counted."""
    values = {"dead_letters": 0}
    for by_code in counts:
        for code, number in tuple(by_code.items()):
            name = "dead_letters_" + re.sub(r"\W", "_", code)
            values["dead_letters"] += number
            values[name] = values.get(name, 0) + number
    return values


_IDENTIFIER = re.compile(rf"(?:^|\.){GROUPS[0]}\.{GROUPS[1]}\.{LABEL}\.(\w+)\.(\w+)$")


def function_and_name(identifier: str) -> tuple[str, str] | None:
    """Whose metric it is that Flink lists under a name, and which; None for one of Flink's own."""
    found = _IDENTIFIER.search(identifier)
    return None if found is None else (found[1], found[2])


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
