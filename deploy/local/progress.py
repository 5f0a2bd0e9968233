"""How far the running jobs have come: read from Flink's REST API and Kafka's offsets.

Kafka is asked first where its topics end, and Flink then, once it has asked its TaskManagers anew,
how far its sources have read: so what is "behind" was published before that moment and had not been
read by it, however old Flink's numbers are.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from connectors.kafka.librdkafka import KafkaOffsets
from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from deploy.local.flink import FlinkRest, Job
from deploy.local.settings import LocalSettings
from jobs.metrics import FLOWS, Flow, function_and_name
from jobs.settings import DEFAULT_GROUP_ID
from schemas.model import load_contracts

REFRESH_SECONDS = 2.5
"""Flink's numbers are up to a second old (metrics.fetcher.update-interval); it asks for new ones
when it is asked. Given up after this long: a TaskManager may just have died."""

AT_A_TIME = 20
"""Metrics asked for in one call: Flink's server takes a request line of 4,096 bytes."""

RECORD_SECONDS = 2.0
"""For reading the first unread record of each partition, of which only the timestamp counts."""

_SOURCE = re.compile(r"^Source__(\w+)\[\d+\]\.(.+)$")
_OFFSET = re.compile(r"^KafkaSourceReader\.topic\.(.+)\.partition\.(\d+)\.currentOffset$")
_RATE = "numRecordsInPerSecond"


@dataclass(frozen=True, slots=True)
class FlowProgress:
    """How far one flow of a pipeline has come; None: not known (yet).

    ``delivered`` are records that were decoded or delivered, ``rejected`` those that went to the
    dead letters, since the job's tasks started last. ``oldest_seconds`` is the age of the oldest
    record that is not finished: of the first one that has not been read since its publication, of
    one that has been, since the function has had it; 0: there is none. ``metrics`` is all that
    the function shows (:mod:`jobs.metrics`), over all workers: counters summed, gauges summed
    (waiting, in_flight, rate_limit) or the greatest (ages, latencies).
    """

    pipeline: str
    flow: str
    records_per_second: float | None
    behind: int | None
    oldest_seconds: float | None
    delivered: int | None
    rejected: int | None
    throttled: int | None
    metrics: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The last complete checkpoint."""

    age_seconds: float
    seconds: float
    """That it took."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job that has not ended."""

    id: str
    name: str
    state: str
    started: float
    """Seconds since the epoch."""
    restarts: int
    checkpoint: Checkpoint | None
    flows: tuple[FlowProgress, ...]


@dataclass(slots=True)
class _Found:
    """What Flink's metrics say of the flows, by source table and by function."""

    rates: dict[str, float] = field(default_factory=dict)
    read: dict[str, dict[Partition, int]] = field(default_factory=dict)
    functions: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, sums: Mapping[str, float], maxima: Mapping[str, float]) -> None:
        """The metrics of a vertex over its subtasks."""
        for name, value in sums.items():
            if own := function_and_name(name):
                function, metric = own
                chosen = maxima[name] if metric.endswith("_ms") and metric != "held_ms" else value
                values = self.functions.setdefault(function, {})
                values[metric] = round(chosen)
            elif source := _SOURCE.match(name):
                table, metric = source[1], source[2]
                if metric == _RATE:
                    self.rates[table] = value
                elif offset := _OFFSET.match(metric):
                    place = (offset[1], int(offset[2]))
                    self.read.setdefault(table, {})[place] = int(maxima[name]) + 1


def running(settings: LocalSettings) -> tuple[JobProgress, ...]:
    """Every job that has not ended. Raises FlinkError when the cluster does not answer.

    Takes up to REFRESH_SECONDS and a moment; without a job just the moment.
    """
    flink = FlinkRest.of(settings)
    if not flink.running_jobs():
        return ()
    topics = Topics.ask(settings)
    refresh(flink)
    return tuple(_job(flink, job, topics) for job in flink.running_jobs())


def refresh(flink: FlinkRest) -> None:
    """Make Flink ask its TaskManagers for their metrics; returns when it has."""
    clock = "Status.JVM.CPU.Time"  # never the same twice

    def clocks() -> dict[str, object]:
        return {
            entry.id: flink.call("GET", f"/taskmanagers/{entry.id}/metrics?get={clock}")
            for entry in flink.taskmanagers()
        }

    before, deadline = clocks(), time.monotonic() + REFRESH_SECONDS
    while time.monotonic() < deadline:
        if all(value and value != before.get(one) for one, value in clocks().items()):
            return
        time.sleep(0.1)


def _job(flink: FlinkRest, job: Job, topics: Topics) -> JobProgress:
    found = _Found()
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="metrics") as pool:
        vertices = [vertex.id for vertex in flink.vertices(job.id)]
        for sums, maxima in pool.map(lambda vertex: _vertex(flink, job.id, vertex), vertices):
            found.add(sums, maxima)
    return JobProgress(
        id=job.id,
        name=job.name,
        state=job.state,
        started=job.started,
        restarts=flink.restarts(job.id),
        checkpoint=_checkpoint(flink.call("GET", f"/jobs/{job.id}/checkpoints")),
        flows=tuple(_flow(flow, found, topics) for flow in FLOWS if flow.table in found.read),
    )


def _vertex(flink: FlinkRest, job: str, vertex: str) -> tuple[dict[str, float], dict[str, float]]:
    """What there is of a vertex: sums and maxima over its subtasks."""
    wanted = [
        name
        for name in flink.vertex_metric_names(job, vertex)
        if function_and_name(name)
        or ((source := _SOURCE.match(name)) and (source[2] == _RATE or _OFFSET.match(source[2])))
    ]
    sums: dict[str, float] = {}
    maxima: dict[str, float] = {}
    for start in range(0, len(wanted), AT_A_TIME):
        chosen = wanted[start : start + AT_A_TIME]
        sums.update(flink.vertex_metrics(job, vertex, chosen, "sum"))
        maxima.update(flink.vertex_metrics(job, vertex, chosen, "max"))
    return sums, maxima


def _checkpoint(answer: Any) -> Checkpoint | None:
    """The last complete one in an answer of Flink's, if there is one."""
    latest = (answer.get("latest") or {}).get("completed")
    if not latest:
        return None
    return Checkpoint(
        age_seconds=max(0.0, time.time() - latest["latest_ack_timestamp"] / 1000),
        seconds=latest["end_to_end_duration"] / 1000,
        size_bytes=int(latest["checkpointed_size"]),
    )


def _flow(flow: Flow, found: _Found, topics: Topics) -> FlowProgress:
    metrics = dict(sorted(found.functions.get(flow.function, {}).items()))
    unread = topics.unread(flow, found.read[flow.table])
    waiting = max(metrics.get("oldest_age_ms", 0), metrics.get("holding_ms", 0)) / 1000
    return FlowProgress(
        pipeline=flow.pipeline,
        flow=flow.label,
        records_per_second=found.rates.get(flow.table),
        behind=None if unread is None else sum(count for _, count in unread.values()),
        oldest_seconds=None
        if unread is None
        else max(waiting, topics.age({place: offset for place, (offset, _) in unread.items()})),
        delivered=metrics.get("delivered", metrics.get("decoded")),
        rejected=metrics.get("dead_letters"),
        throttled=metrics.get("throttled"),
        metrics=metrics,
    )


class Topics:
    """Where Kafka's topics ended, and where the sources' groups had committed; both None while
    Kafka does not answer: the part ``kafka`` says why."""

    def __init__(self, address: str, ends: Offsets | None, committed: Mapping[str, Offsets]):
        self._address = address
        self._ends = ends
        self._committed = committed

    @classmethod
    def ask(cls, settings: LocalSettings) -> Topics:
        """As they are now."""
        # Errors only: librdkafka says on the terminal what it clears away at the end.
        kafka = KafkaOffsets(settings.kafka.address, {"log_level": "3"})
        application = group_id(settings)
        try:
            ends = kafka.ends(kafka.partitions(contract.topic for contract in load_contracts()))
            groups = {flow.group for flow in FLOWS}
            committed = {g: kafka.committed(f"{application}-{g}", ends) for g in groups}
        except OffsetsUnavailable:
            return cls(settings.kafka.address, None, {})
        return cls(settings.kafka.address, ends, committed)

    def unread(self, flow: Flow, read: Offsets) -> dict[Partition, tuple[int, int]] | None:
        """The first unread offset and the number of unread records, where there are any.

        A source that has read nothing since it was restored says 0; then its group knows better.
        """
        if self._ends is None:
            return None
        committed = self._committed[flow.group]
        result = {}
        for place, position in read.items():
            first = max(position, committed.get(place, 0))
            if first < self._ends.get(place, 0):
                result[place] = (first, self._ends[place] - first)
        return result

    def age(self, positions: Offsets) -> float:
        """Seconds since the oldest of the records at these positions was published; 0: none."""
        if not positions:
            return 0.0
        consumer = Consumer(
            {
                "bootstrap.servers": self._address,
                "group.id": "tunemesh-status",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "log_level": 3,
            }
        )
        try:
            consumer.assign([TopicPartition(*place, at) for place, at in positions.items()])
            missing, oldest = set(positions), time.time() * 1000
            deadline = time.monotonic() + RECORD_SECONDS
            while missing and time.monotonic() < deadline:
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    missing.discard((message.topic(), message.partition()))
                    oldest = min(oldest, message.timestamp()[1])
            return max(0.0, time.time() - oldest / 1000)
        finally:
            consumer.close()


def group_id(settings: LocalSettings) -> str:
    """What the consumer groups of the application that was submitted last begin with."""
    files = (settings.home / "applications").glob("*.json")
    newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
    if newest is not None:
        with contextlib.suppress(OSError, ValueError):
            for group in json.loads(newest.read_text(encoding="utf-8")):
                if group["PropertyGroupId"] == "tunemesh.application":
                    return str(group["PropertyMap"].get("group.id", DEFAULT_GROUP_ID))
    return DEFAULT_GROUP_ID
