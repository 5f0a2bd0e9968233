"""How an application on Managed Flink does, by CloudWatch.

Namespace ``AWS/KinesisAnalytics``, dimension ``Application``. The service publishes once a minute,
some time late. Its own metrics (developer guide, "Metrics and dimensions"): ``numRestarts``,
``lastCheckpointDuration``, ``records_lag_max``. What is in a metric group ``kinesisanalytics``
comes through as well: ours (:mod:`jobs.metrics`), by the dimension ``function``; how the service
names the groups in between was not seen, so a metric is taken by its name's end.
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
MOST_HOURS = 3
"""How far back is looked at most."""

QUERIES_AT_A_TIME = 500

_RESTARTS = ("numRestarts", "fullRestarts")
_CHECKPOINT = "lastCheckpointDuration"
_LAG = "records_lag_max"
_OWN = {"decoded": "delivered", "delivered": "delivered", "dead_letters": "dead_letters"}


def health_of(client: Any, application: str, *, running: bool, since: float | None) -> Health:
    """The health of an application since a moment (seconds since the epoch).

    Raises botocore's errors. A minute that the present version has not had to itself is left out.
    """
    now = datetime.now(UTC)
    earliest = now - timedelta(hours=MOST_HOURS)
    begun = earliest if since is None else max(earliest, datetime.fromtimestamp(since, UTC))
    metrics = [
        metric
        for metric in _listed(client, application)
        if metric["MetricName"] in (*_RESTARTS, _CHECKPOINT, _LAG)
        or _own(metric["MetricName"]) is not None
    ]
    values = _values(client, metrics, begun, now + timedelta(seconds=PERIOD_SECONDS))
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
        found = counts.setdefault(function, {})
        found[name] = max(found.get(name, 0), round(max(numbers)))
    labels = {flow.function: flow.label for flow in FLOWS}
    flows = {
        labels[function]: FlowHealth(
            delivered=found.get("delivered", 0), dead_letters=found.get("dead_letters", 0)
        )
        for function, found in counts.items()
        if function in labels
    }
    if lag is not None:
        # The lag is the application's, not a flow's.
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


def _listed(client: Any, application: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_metrics").paginate(
        Namespace=NAMESPACE, Dimensions=[{"Name": "Application", "Value": application}]
    )
    return [metric for page in pages for metric in page["Metrics"]]


def _values(
    client: Any, metrics: list[dict[str, Any]], begun: datetime, end: datetime
) -> list[tuple[dict[str, Any], list[float]]]:
    """The maximum of each minute, in their order."""
    result: list[tuple[dict[str, Any], list[float]]] = []
    for start in range(0, len(metrics), QUERIES_AT_A_TIME):
        chosen = metrics[start : start + QUERIES_AT_A_TIME]
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
            StartTime=begun,
            EndTime=end,
            ScanBy="TimestampAscending",
        )
        by_id = {entry["Id"]: list(entry["Values"]) for entry in answer["MetricDataResults"]}
        result += [(metric, by_id.get(f"m{number}", [])) for number, metric in enumerate(chosen)]
    return result
