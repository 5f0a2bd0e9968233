"""The health of an application on Managed Flink, by CloudWatch's metrics.

Namespace ``AWS/KinesisAnalytics``, dimension ``Application``. The service publishes once per
minute, with a delay. Its own metrics (developer guide, "Metrics and dimensions"): ``numRestarts``,
``lastCheckpointDuration``, ``records_lag_max``. Metrics in a group ``kinesisanalytics`` are
published as well: those of :mod:`jobs.metrics`, with the dimension ``function``. How the service
names the groups in between has not been observed, so they are matched by the end of the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.flink.metric_group import LABEL
from deploy.upgrades.target import FlowHealth, Health
from jobs.metrics import FLOWS

NAMESPACE = "AWS/KinesisAnalytics"
PERIOD_SECONDS = 60
MAX_HOURS = 3
"""How far back metrics are read."""

QUERIES_PER_CALL = 500

_RESTARTS = ("numRestarts", "fullRestarts")
_CHECKPOINT = "lastCheckpointDuration"
_LAG = "records_lag_max"
_OWN = {"decoded": "delivered", "delivered": "delivered", "dead_letters": "dead_letters"}


def read_health(client: Any, application: str, *, running: bool, since: float | None) -> Health:
    """Return the health of an application since a time (seconds since the epoch).

    Raises botocore's errors. Minutes in which the former version also ran are excluded.
    """
    now = datetime.now(UTC)
    earliest = now - timedelta(hours=MAX_HOURS)
    start = earliest if since is None else max(earliest, datetime.fromtimestamp(since, UTC))
    metrics = [
        metric
        for metric in _list_metrics(client, application)
        if metric["MetricName"] in (*_RESTARTS, _CHECKPOINT, _LAG)
        or _own(metric["MetricName"]) is not None
    ]
    values = _read_maxima(client, metrics, start, now + timedelta(seconds=PERIOD_SECONDS))
    restarts = [max(v) for m, v in values if m["MetricName"] in _RESTARTS and v]
    checkpoints = [sum(x > 0 for x in v) for m, v in values if m["MetricName"] == _CHECKPOINT]
    lags = [v[-1] for m, v in values if m["MetricName"] == _LAG and v]
    return Health(
        running=running,
        restarts=round(max(restarts, default=0)),
        checkpoints=max(checkpoints, default=0),
        flows=_flows(values, round(max(lags)) if lags else None),
        failure="see the application's log" if any(restarts) else "",
    )


def _flows(
    values: Iterable[tuple[Mapping[str, Any], list[float]]], lag: int | None
) -> dict[str, FlowHealth]:
    counts: dict[str, dict[str, int]] = {}
    for metric, numbers in values:
        name = _own(metric["MetricName"])
        function = _dimensions(metric).get(LABEL)
        if name is None or function is None or not numbers:
            continue
        count = counts.setdefault(function, {})
        count[name] = max(count.get(name, 0), round(max(numbers)))
    labels = {flow.function: flow.label for flow in FLOWS}
    flows = {
        labels[function]: FlowHealth(
            delivered=count.get("delivered", 0), dead_letters=count.get("dead_letters", 0)
        )
        for function, count in counts.items()
        if function in labels
    }
    if lag is not None:
        # The lag is that of the application, not of a flow.
        flows["all"] = FlowHealth(
            delivered=sum(flow.delivered for flow in flows.values()),
            behind=lag,
            counted=bool(flows),
        )
    return flows


def _own(metric: str) -> str | None:
    return _OWN.get(metric.rpartition(".")[2])


def _dimensions(metric: Mapping[str, Any]) -> dict[str, str]:
    return {entry["Name"]: entry["Value"] for entry in metric["Dimensions"]}


def _list_metrics(client: Any, application: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_metrics").paginate(
        Namespace=NAMESPACE, Dimensions=[{"Name": "Application", "Value": application}]
    )
    return [metric for page in pages for metric in page["Metrics"]]


def _read_maxima(
    client: Any, metrics: list[dict[str, Any]], start: datetime, end: datetime
) -> list[tuple[dict[str, Any], list[float]]]:
    """Return the maxima per minute of each metric, in the order given."""
    result: list[tuple[dict[str, Any], list[float]]] = []
    for first in range(0, len(metrics), QUERIES_PER_CALL):
        chosen = metrics[first : first + QUERIES_PER_CALL]
        queries = [
            {
                "Id": f"m{number}",
                "MetricStat": {
                    "Metric": {**metric, "Namespace": NAMESPACE},
                    "Period": PERIOD_SECONDS,
                    "Stat": "Maximum",
                },
            }
            for number, metric in enumerate(chosen)
        ]
        answer = client.get_metric_data(
            MetricDataQueries=queries,
            StartTime=start,
            EndTime=end,
            ScanBy="TimestampAscending",
        )
        by_id = {entry["Id"]: list(entry["Values"]) for entry in answer["MetricDataResults"]}
        result += [(metric, by_id.get(f"m{number}", [])) for number, metric in enumerate(chosen)]
    return result
