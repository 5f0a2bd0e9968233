"""Promises of `tunemesh status`: what it reads from Flink, and how it tells it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import RenderableType

from cli import main, terminal
from cli import status as status_command
from cli.status import NO_FLINK, document, job_output, read_jobs, service_output, total
from connectors.kafka.offsets import Offsets, Partition
from deploy.local import platform
from deploy.local.flink import FlinkError
from deploy.local.job_progress import (
    Checkpoint,
    FlowProgress,
    JobProgress,
    Topics,
    group_id,
    read_job_progress,
)
from deploy.local.platform import State, Status
from deploy.local.settings import LocalSettings
from jobs.metrics import FLOWS
from tests.support.servers import Received, http_server

NOW = 1_700_000_000.0

INTERACTIONS = FlowProgress(
    "enrichment", "interactions", 400.25, 12, 0.31, 20_294, 235, None, {"decoded": 20_294}
)
USERS = FlowProgress("enrichment", "users", 3.0, 0, 0.0, 500, 0, None)
EVENTS = FlowProgress("recommendations", "PutEvents", 398.0, None, None, 20_100, 5, 17)
JOB = JobProgress(
    "ab" * 16,
    "tunemesh",
    "RUNNING",
    NOW - 200,
    1,
    Checkpoint(4.2, 0.35, 1_234_567),
    (USERS, INTERACTIONS, EVENTS),
)


def shown(*renderables: RenderableType) -> list[str]:
    return terminal.plain_text(*renderables).splitlines()


def row(lines: list[str], label: str) -> list[str]:
    """The figures behind a label."""
    (line,) = [line for line in lines if line.strip().startswith(label + "  ")]
    return line.split(label, 1)[1].split()


def test_a_job_has_a_line_with_its_restarts_and_checkpoint() -> None:
    """One line for its health."""
    line = shown(*job_output([JOB], None, NOW))[0]
    assert line == (
        f"job {'ab' * 16} RUNNING for 3 min, 1 restart, checkpoint 4.2 s ago (0.3 s, 1.2 MB)"
    )


def test_each_flow_has_its_line_and_each_pipeline_their_sum() -> None:
    """Numbers are summed, ages maximised; '-' without throttling, and without an old record."""
    lines = shown(*job_output([JOB], None, NOW))
    assert row(lines, "interactions") == ["400.2", "12", "0.3", "s", "20,294", "235", "-"]
    assert row(lines, "users") == ["3.0", "0", "-", "500", "0", "-"]
    assert row(lines, "enrichment") == ["403.2", "12", "0.3", "s", "20,794", "235", "-"]


def test_an_unknown_value_is_a_question_mark() -> None:
    """Kafka does not answer: the lag is unknown, the rest is shown."""
    lines = shown(*job_output([JOB], None, NOW))
    assert row(lines, "PutEvents") == ["398.0", "?", "?", "20,100", "5", "17"]
    assert total("recommendations", [EVENTS]).behind is None


def test_a_job_that_has_just_started() -> None:
    """It has neither a checkpoint nor sources yet."""
    job = JobProgress("cd" * 16, "tunemesh", "CREATED", NOW, 0, None, ())
    lines = shown(*job_output([job], None, NOW))
    assert "0 restarts, no checkpoint yet" in lines[0]
    assert "its sources have not started yet" in lines[-1]


def test_without_a_job_there_is_one_line() -> None:
    """For each reason."""
    assert shown(*job_output([], "no job runs", NOW)) == ["no job runs"]


SERVICES = (
    Status("kafka", "kafka", State.RUNNING, 7, datetime(2026, 1, 2, tzinfo=UTC), "here:1", ()),
    Status("flink-jobmanager", "flink", State.DEAD, None, None, "there:2", ("the last line",)),
)


def test_flink_is_not_called_while_it_is_down(tmp_path: Path) -> None:
    """The text says what to do."""
    settings = LocalSettings.from_environment({"TUNEMESH_HOME": str(tmp_path)})
    assert read_jobs(settings, SERVICES) == ((), NO_FLINK)


def test_a_crashed_service_is_shown_with_the_end_of_its_log(tmp_path: Path) -> None:
    """And with the command that starts it."""
    settings = LocalSettings.from_environment({"TUNEMESH_HOME": str(tmp_path)})
    lines = shown(*service_output(settings, SERVICES))
    assert lines[0].split() == ["kafka", "running", "here:1", "process", "7", "since", "00:00:00"]
    assert "    the last line" in lines
    assert "  Start it again: tunemesh up flink" in lines


def test_the_document_for_programs() -> None:
    """JSON with every metric and each pipeline's total."""
    found = json.loads(json.dumps(document(SERVICES, [JOB], None)))
    assert [part["state"] for part in found["parts"]] == ["running", "dead"]
    (job,) = found["jobs"]
    assert job["restarts"] == 1
    assert job["checkpoint"]["size_bytes"] == 1_234_567
    enrichment = job["pipelines"]["enrichment"]
    assert enrichment["total"]["delivered"] == 20_794
    assert enrichment["flows"][1]["metrics"] == {"decoded": 20_294}
    assert found["problem"] is None


# What is read.

OWN = "kinesisanalytics.tunemesh.function."
SOURCE = "Source__recommendations_enriched[7]."
SUBTASKS: Mapping[str, tuple[float, ...]] = {
    OWN + "deliver_events.delivered": (100, 0),
    OWN + "deliver_events.dead_letters": (1, 2),
    OWN + "deliver_events.oldest_age_ms": (1500, 700),
    OWN + "deliver_events.rate_limit_per_minute": (3000, 2000),
    OWN + "deliver_events.throttled": (4, 0),
    SOURCE + "numRecordsInPerSecond": (10.5, 2),
    SOURCE + "KafkaSourceReader.topic.interactions-enriched.partition.0.currentOffset": (99, -1),
    SOURCE + "KafkaSourceReader.topic.interactions-enriched.partition.1.currentOffset": (-1,),
    SOURCE + "KafkaSourceReader.commitsFailed": (0, 0),
    "numRecordsIn": (5, 5),
}


class JobManager:
    """Answers as Flink 2.2 does for a job with one vertex.

    Its numbers are old ones, zeros, until the TaskManager's clock has been looked at twice.
    """

    looks = 0
    state = "RUNNING"
    started = 5.0
    failures: tuple[float, ...] = ()
    running_tasks = 2

    def __call__(self, request: Received) -> tuple[int, bytes]:
        url = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        assert len(request.path) < 4096
        return 200, json.dumps(self.answer(url.path, query)).encode()

    def answer(self, path: str, query: Mapping[str, str]) -> object:
        if path == "/jobs/overview":
            started = self.started * 1000
            job = {"jid": "j", "name": "tunemesh", "state": self.state, "start-time": started}
            job["tasks"] = {"total": 2, "running": self.running_tasks}
            return {"jobs": [job, {**job, "jid": "old", "state": "FINISHED"}]}
        if path == "/taskmanagers":
            return {"taskmanagers": [{"id": "t", "slotsNumber": 1, "freeSlots": 0}]}
        if path.startswith("/taskmanagers/t/"):
            self.looks += 1
            return [{"id": query["get"], "value": str(self.looks)}]
        if path == "/jobs/j":
            vertex = {"id": "v", "name": "source", "parallelism": 2, "status": "RUNNING"}
            tasks = {"RUNNING": self.running_tasks, "SCHEDULED": 2 - self.running_tasks}
            return {"state": self.state, "vertices": [{**vertex, "tasks": tasks}]}
        if path == "/jobs/j/exceptions":
            trace = (
                "org.apache.flink.FlinkException: a task\nCaused by: SettingError: no such stream"
            )
            entries = [{"timestamp": at * 1000, "stacktrace": trace} for at in self.failures]
            return {"exceptionHistory": {"entries": entries, "truncated": False}}
        if path == "/jobs/j/checkpoints":
            completed = {"latest_ack_timestamp": 1000, "end_to_end_duration": 250}
            return {"latest": {"completed": {**completed, "checkpointed_size": 77}}}
        if path == "/jobs/j/metrics":
            return [{"id": "numRestarts", "value": "3"}]
        assert path == "/jobs/j/vertices/v/subtasks/metrics"
        if "get" not in query:
            return [{"id": name} for name in SUBTASKS]
        aggregates: dict[str, Callable[[Iterable[float]], float]] = {
            "sum": sum,
            "max": max,
            "min": min,
        }
        aggregate = aggregates[query["agg"]]
        age = 0 if self.looks < 2 else 1
        return [
            {"id": name, query["agg"]: float(age * aggregate(SUBTASKS[name]))}
            for name in query["get"].split(",")
        ]


@pytest.fixture
def job_manager() -> JobManager:
    """A stub of Flink."""
    return JobManager()


@pytest.fixture
def settings(tmp_path: Path, job_manager: JobManager) -> Iterator[LocalSettings]:
    """Settings with a stub of Flink, without Kafka."""
    with http_server(job_manager) as url:
        yield LocalSettings.from_environment(
            {"TUNEMESH_HOME": str(tmp_path), "TUNEMESH_FLINK_PORT": url.rpartition(":")[2]}
        )


EVENTS_FLOW = next(flow for flow in FLOWS if flow.function == "deliver_events")
TOPIC = "interactions-enriched"


class Broker(Topics):
    """Where Kafka's topics end, without Kafka; every record was published ten seconds ago."""

    markers = frozenset[tuple[Partition, int]]()

    def first_records(self, positions: Offsets) -> Offsets:
        return {
            p: offset + 1 if (p, offset) in self.markers else offset
            for p, offset in positions.items()
        }

    def age(self, positions: Offsets) -> float:
        return 10.0 if positions else 0.0


def test_a_jobs_progress_is_read_from_its_metrics(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters and rates are summed over subtasks, ages maximised."""
    topics = Broker(
        "nowhere", {(TOPIC, 0): 130, (TOPIC, 1): 40}, {EVENTS_FLOW.group: {(TOPIC, 1): 38}}
    )
    monkeypatch.setattr(Topics, "read", lambda settings: topics)

    (job,) = read_job_progress(settings)

    assert (job.id, job.restarts) == ("j", 3)
    assert job.checkpoint is not None
    assert (job.checkpoint.seconds, job.checkpoint.size_bytes) == (0.25, 77)
    (flow,) = job.flows
    assert (flow.pipeline, flow.flow) == ("recommendations", "PutEvents")
    assert (flow.delivered, flow.rejected, flow.throttled) == (100, 3, 4)
    assert flow.records_per_second == 12.5
    assert flow.metrics["rate_limit_per_minute"] == 5000
    # 100 to 129 of one partition; of the other, of which nothing was read since the restart, what
    # is beyond the committed offset.
    assert flow.behind == 30 + 2
    assert flow.oldest_seconds == 10.0


@pytest.mark.parametrize(
    ("topics", "markers", "behind", "oldest"),
    [
        # The engine began with its oldest record 1.5 seconds ago.
        (Broker("nowhere", {(TOPIC, 0): 100, (TOPIC, 1): 0}, {EVENTS_FLOW.group: {}}), (), 0, 1.5),
        # The source never reads a marker, so its position stays before the end.
        (
            Broker("nowhere", {(TOPIC, 0): 101, (TOPIC, 1): 0}, {EVENTS_FLOW.group: {}}),
            [((TOPIC, 0), 100)],
            0,
            1.5,
        ),
        # Without Kafka the other values are known.
        (Topics("nowhere", None, {}), (), None, None),
    ],
    ids=["at the end", "the marker of a transaction", "without Kafka"],
)
def test_only_records_that_the_source_has_not_read_are_behind(
    settings: LocalSettings,
    monkeypatch: pytest.MonkeyPatch,
    topics: Topics,
    markers: Iterable[tuple[Partition, int]],
    behind: int | None,
    oldest: float | None,
) -> None:
    """At the end of a topic only what the function has is old; without Kafka lag is not known."""
    monkeypatch.setattr(Broker, "markers", frozenset(markers))
    monkeypatch.setattr(Topics, "read", lambda settings: topics)
    (job,) = read_job_progress(settings)
    assert (job.flows[0].behind, job.flows[0].oldest_seconds) == (behind, oldest)
    assert job.flows[0].delivered == 100


@pytest.mark.parametrize(
    ("state", "started", "failed", "running_tasks", "problem"),
    [
        ("RUNNING", 3_600, (), 2, ""),
        ("RUNNING", 3_600, (30,), 2, ""),
        ("RUNNING", 3_600, (500, 510, 520), 2, ""),
        ("RUNNING", 10, (), 0, ""),
        ("RUNNING", 3_600, (10,), 1, ""),
        ("RESTARTING", 3_600, (1,), 0, "restarting: SettingError: no such stream"),
        (
            "RUNNING", 3_600, (20, 60, 500), 2,
            "restarts in a loop, 2 failures in the last 120 s: SettingError: no such stream",
        ),
        ("RUNNING", 300, (), 1, "not all tasks run after 300 s"),
    ],
)  # fmt: skip
def test_a_job_that_restarts_or_waits_is_not_healthy(
    settings: LocalSettings,
    job_manager: JobManager,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    started: float,
    failed: tuple[float, ...],
    running_tasks: int,
    problem: str,
) -> None:
    """Seconds since its start and its failures; one failure, or an earlier loop, is over."""
    monkeypatch.setattr(Topics, "read", lambda settings: Topics("nowhere", None, {}))
    job_manager.state, job_manager.running_tasks = state, running_tasks
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    job_manager.started = now - started
    job_manager.failures = tuple(now - seconds for seconds in failed)
    (job,) = read_job_progress(settings)
    assert job.problem == problem


def test_a_job_that_is_not_healthy_has_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of a service that has crashed; the reason is below the job's line."""
    jobs = [JOB, replace(JOB, problem="restarts in a loop")]
    monkeypatch.setattr(platform, "status", lambda settings, environ: SERVICES[:1])
    monkeypatch.setattr(status_command, "read_jobs", lambda settings, services: (jobs, None))
    assert main.run(main.tunemesh, ["status"]) == 3
    assert "  restarts in a loop" in capsys.readouterr().out.splitlines()
    del jobs[1]
    assert main.run(main.tunemesh, ["status"]) == 0


def test_flink_that_does_not_answer_is_an_error_with_its_address(tmp_path: Path) -> None:
    """It stopped after the check."""
    settings = LocalSettings.from_environment(
        {"TUNEMESH_HOME": str(tmp_path), "TUNEMESH_FLINK_PORT": "1"}
    )
    with pytest.raises(FlinkError, match=r"127\.0\.0\.1:1 does not answer"):
        read_job_progress(settings)


def test_the_group_is_that_of_the_application_submitted_last(tmp_path: Path) -> None:
    """From its property file; the default without one."""
    settings = LocalSettings.from_environment({"TUNEMESH_HOME": str(tmp_path)})
    assert group_id(settings) == "tunemesh"
    folder = tmp_path / "applications"
    folder.mkdir()
    groups = [{"PropertyGroupId": "tunemesh.application", "PropertyMap": {"group.id": "mine"}}]
    (folder / "enrichment.json").write_text(json.dumps(groups))
    assert group_id(settings) == "mine"
