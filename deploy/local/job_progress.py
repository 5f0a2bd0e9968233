"""The progress of running jobs, from Flink's REST API and Kafka's offsets.

Kafka's end offsets are read first; Flink's metrics afterwards, once Flink has refreshed them. So
records counted as "behind" were published before, and not read by then, however old the metrics
are.
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

from connectors.kafka.librdkafka import LOGGER, KafkaOffsets
from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from deploy.local.flink import FlinkRest, Job, root_cause
from deploy.local.settings import LocalSettings
from jobs.metrics import FLOWS, Flow, aggregation, function_and_name
from jobs.settings import DEFAULT_GROUP_ID
from schemas.model import load_contracts

REFRESH_SECONDS = 2.5
"""Flink refreshes its metrics on a request when they are older than a second
(metrics.fetcher.update-interval). Waiting ends after this time: a TaskManager may have crashed."""

LOOP_SECONDS = 120.0
"""Two failures within this time are a loop; backoff and start together take far less."""

START_SECONDS = 60.0
"""Time for the tasks of a job to start."""

METRICS_PER_CALL = 20
"""Flink's server accepts a request line of 4,096 bytes."""

RECORD_SECONDS = 2.0
"""Limit for reading the first unread record of each partition, for its timestamp."""

_SOURCE = re.compile(r"^Source__(\w+)\[\d+\]\.(.+)$")
_OFFSET = re.compile(r"^KafkaSourceReader\.topic\.(.+)\.partition\.(\d+)\.currentOffset$")
_RATE = "numRecordsInPerSecond"


@dataclass(frozen=True, slots=True)
class FlowProgress:
    """The progress of one flow of a pipeline; None: unknown.

    ``delivered`` counts records decoded or delivered, ``rejected`` dead letters, both since the
    job's tasks last started. ``oldest_seconds`` is the age of the oldest unfinished record: since
    its publication if it has not been read, else since the function received it; 0 without any.
    ``metrics`` are the function's metrics over all workers (:func:`jobs.metrics.aggregation`).
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
    """The last complete checkpoint: its age, duration and size."""

    age_seconds: float
    seconds: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A running job."""

    id: str
    name: str
    state: str
    started: float
    """Seconds since the epoch."""
    restarts: int
    checkpoint: Checkpoint | None
    flows: tuple[FlowProgress, ...]
    problem: str = ""
    """Why it is not healthy; empty if it is."""


@dataclass(slots=True)
class _Metrics:
    """Flink's metrics of the flows, by source table and by function."""

    rates: dict[str, float] = field(default_factory=dict)
    read: dict[str, dict[Partition, int]] = field(default_factory=dict)
    functions: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Add the metrics of a vertex, aggregated over its subtasks."""
        for name, value in values.items():
            if own := function_and_name(name):
                function, metric = own
                self.functions.setdefault(function, {})[metric] = round(value)
            elif source := _SOURCE.match(name):
                table, metric = source[1], source[2]
                if metric == _RATE:
                    self.rates[table] = value
                elif offset := _OFFSET.match(metric):
                    partition = (offset[1], int(offset[2]))
                    self.read.setdefault(table, {})[partition] = int(value) + 1


def read_job_progress(settings: LocalSettings) -> tuple[JobProgress, ...]:
    """Return the progress of every running job; raises FlinkError if Flink does not answer."""
    flink = FlinkRest.of(settings)
    if not flink.running_jobs():
        return ()
    topics = Topics.read(settings)
    refresh_metrics(flink)
    return tuple(_job(flink, job, topics) for job in flink.running_jobs())


def refresh_metrics(flink: FlinkRest) -> None:
    """Make Flink refresh its TaskManagers' metrics; returns once it has, or after the limit."""
    clock = "Status.JVM.CPU.Time"  # never the same twice

    def read_clocks() -> dict[str, object]:
        return {
            entry.id: flink.call("GET", f"/taskmanagers/{entry.id}/metrics?get={clock}")
            for entry in flink.taskmanagers()
        }

    before, deadline = read_clocks(), time.monotonic() + REFRESH_SECONDS
    while time.monotonic() < deadline:
        if all(value and value != before.get(id_) for id_, value in read_clocks().items()):
            return
        time.sleep(0.1)


def _job(flink: FlinkRest, job: Job, topics: Topics) -> JobProgress:
    source_metrics = _Metrics()
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="metrics") as pool:
        vertices = [vertex.id for vertex in flink.vertices(job.id)]
        for values in pool.map(lambda vertex: _vertex(flink, job.id, vertex), vertices):
            source_metrics.add(values)
    return JobProgress(
        id=job.id,
        name=job.name,
        state=job.state,
        started=job.started,
        restarts=flink.restarts(job.id),
        checkpoint=_checkpoint(flink.call("GET", f"/jobs/{job.id}/checkpoints")),
        flows=tuple(
            _flow(flow, source_metrics, topics)
            for flow in FLOWS
            if flow.table in source_metrics.read
        ),
        problem=_find_problem(flink, job, time.time()),
    )


def _find_problem(flink: FlinkRest, job: Job, now: float) -> str:
    """Return why a job is not healthy; empty for one that is, or that has just been started.

    A job that restarts in a loop is RUNNING between its failures.
    """
    failures = flink.failures(job.id)
    cause = f": {root_cause(failures[0].text)}" if failures else ""
    if job.state in ("RESTARTING", "FAILING"):
        return f"restarting{cause}"
    recent = sum(now - failure.at < LOOP_SECONDS for failure in failures)
    if recent > 1:
        return f"restarts in a loop, {recent} failures in the last {LOOP_SECONDS:.0f} s{cause}"
    started = max(job.started, *(failure.at for failure in failures), 0.0)
    if now - started > START_SECONDS and not flink.all_running(job.id):
        return f"not all tasks run after {now - started:.0f} s"
    return ""


def _vertex(flink: FlinkRest, job: str, vertex: str) -> dict[str, float]:
    """Return the metrics of a vertex that are shown, aggregated over its subtasks."""
    wanted: dict[str, list[str]] = {}
    for name in flink.vertex_metric_names(job, vertex):
        if chosen := _aggregation(name):
            wanted.setdefault(chosen, []).append(name)
    values: dict[str, float] = {}
    for chosen, names in wanted.items():
        for start in range(0, len(names), METRICS_PER_CALL):
            part = names[start : start + METRICS_PER_CALL]
            values.update(flink.vertex_metrics(job, vertex, part, chosen))
    return values


def _aggregation(name: str) -> str | None:
    """Return how Flink aggregates a metric over subtasks; None for one that is not shown."""
    if own := function_and_name(name):
        return aggregation(own[1])
    source = _SOURCE.match(name)
    if source and source[2] == _RATE:
        return "sum"
    return "max" if source and _OFFSET.match(source[2]) else None


def _checkpoint(answer: Any) -> Checkpoint | None:
    """Return the last complete checkpoint in Flink's answer."""
    latest = (answer.get("latest") or {}).get("completed")
    if not latest:
        return None
    return Checkpoint(
        age_seconds=max(0.0, time.time() - latest["latest_ack_timestamp"] / 1000),
        seconds=latest["end_to_end_duration"] / 1000,
        size_bytes=int(latest["checkpointed_size"]),
    )


def _flow(flow: Flow, source_metrics: _Metrics, topics: Topics) -> FlowProgress:
    metrics = dict(sorted(source_metrics.functions.get(flow.function, {}).items()))
    unread = topics.unread(flow, source_metrics.read[flow.table])
    waiting = max(metrics.get("oldest_age_ms", 0), metrics.get("holding_ms", 0)) / 1000
    return FlowProgress(
        pipeline=flow.pipeline,
        flow=flow.label,
        records_per_second=source_metrics.rates.get(flow.table),
        behind=None if unread is None else sum(count for _, count in unread.values()),
        oldest_seconds=None
        if unread is None
        else max(
            waiting, topics.age({partition: first for partition, (first, _) in unread.items()})
        ),
        delivered=metrics.get("delivered", metrics.get("decoded")),
        rejected=metrics.get("dead_letters"),
        throttled=metrics.get("throttled"),
        metrics=metrics,
    )


class Topics:
    """End offsets of the topics and committed offsets of the sources' groups; ``ends`` is None
    if Kafka does not answer."""

    def __init__(self, address: str, ends: Offsets | None, committed: Mapping[str, Offsets]):
        self._address = address
        self._ends = ends
        self._committed = committed

    @classmethod
    def read(cls, settings: LocalSettings) -> Topics:
        """Read the offsets from Kafka."""
        kafka = KafkaOffsets(settings.kafka.address, {"logger": LOGGER})
        application = group_id(settings)
        try:
            ends = kafka.ends(kafka.partitions(contract.topic for contract in load_contracts()))
            groups = {flow.group for flow in FLOWS}
            committed = {g: kafka.committed(f"{application}-{g}", ends) for g in groups}
        except OffsetsUnavailable:
            return cls(settings.kafka.address, None, {})
        return cls(settings.kafka.address, ends, committed)

    def unread(self, flow: Flow, read: Offsets) -> dict[Partition, tuple[int, int]] | None:
        """Return the first unread offset and the number of unread records of partitions with any.

        A restored source reports 0 until it has read a record; the group's offset is used then.
        """
        if self._ends is None:
            return None
        committed = self._committed[flow.group]
        positions = {p: max(position, committed.get(p, 0)) for p, position in read.items()}
        unread = {p: first for p, first in positions.items() if first < self._ends.get(p, 0)}
        try:
            records = self.first_records(unread)
        except OffsetsUnavailable:
            return None
        return {
            partition: (first, self._ends[partition] - first)
            for partition, first in records.items()
            if first < self._ends[partition]
        }

    def first_records(self, positions: Offsets) -> Offsets:
        """Return the offset of the first record at each position or later, else the end."""
        return KafkaOffsets(self._address, {"logger": LOGGER}).first_records(positions)

    def age(self, positions: Offsets) -> float:
        """Return the seconds since the oldest record at these positions was published; 0: none."""
        if not positions:
            return 0.0
        consumer = Consumer(
            {
                "bootstrap.servers": self._address,
                "group.id": "tunemesh-status",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,
                "logger": LOGGER,
            }
        )
        try:
            consumer.assign(
                [TopicPartition(*partition, offset) for partition, offset in positions.items()]
            )
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
    """Return the prefix of the consumer groups of the last submitted application."""
    files = (settings.home / "applications").glob("*.json")
    newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
    if newest is not None:
        with contextlib.suppress(OSError, ValueError):
            for group in json.loads(newest.read_text(encoding="utf-8")):
                if group["PropertyGroupId"] == "tunemesh.application":
                    return str(group["PropertyMap"].get("group.id", DEFAULT_GROUP_ID))
    return DEFAULT_GROUP_ID
