"""Processes are killed or suspended while all pipelines run; and input that is out of order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from deploy.local import flink_cluster, kafka, opensearch, process
from tests.faults.checkpoints import find_latest_checkpoint, wait_checkpoint
from tests.faults.full_stage import Flow, FullStage, pass_time, scenario
from tests.faults.sources import DisorderedHour
from tests.support.waiting import wait_until

SECONDS = 20
"""Long enough for a checkpoint and events after it."""

SUSPENDED_SECONDS = 30


@contextmanager
def after_checkpoint(stage: FullStage, name: str, seed: int) -> Iterator[Flow]:
    """Run a scenario whose block begins after a checkpoint, before the last events."""
    with scenario(stage, name, seed=seed, seconds=SECONDS, datasets=True) as flow:
        wait_checkpoint(stage.rest, stage.job)
        yield flow


@pytest.mark.timeout(900)
def test_a_killed_taskmanager(full_stage: FullStage) -> None:
    """kill -9: its tasks restart from the last checkpoint in a new TaskManager."""
    with after_checkpoint(full_stage, "kill -9 of a TaskManager", 600) as flow:
        full_stage.kill_taskmanager()
        flow.lift()
        full_stage.start_missing(flink_cluster.NAME)
    assert flow.restarts > 0


@pytest.mark.timeout(900)
def test_a_killed_jobmanager(full_stage: FullStage) -> None:
    """kill -9 without high availability: the job is submitted again from its last checkpoint."""
    with after_checkpoint(full_stage, "kill -9 of the JobManager", 601) as flow:
        process.kill(full_stage.settings, flink_cluster.JOBMANAGER)
        flow.lift()
        full_stage.start_missing(flink_cluster.NAME)
        checkpoint = find_latest_checkpoint(full_stage.settings)
        assert checkpoint is not None
        full_stage.resubmit(checkpoint)


@pytest.mark.timeout(900)
def test_a_killed_python_worker(full_stage: FullStage) -> None:
    """kill -9 of a worker in process mode, restored from a savepoint of thread mode."""
    savepoints = full_stage.settings.data(flink_cluster.NAME) / "savepoints"
    try:
        savepoint = full_stage.rest.stop_with_savepoint(full_stage.job, savepoints)
        full_stage.resubmit(
            savepoint, {"tunemesh.application": {"python.execution-mode": "process"}}
        )
        with after_checkpoint(full_stage, "kill -9 of a Python worker", 602) as flow:
            workers = full_stage.python_workers()
            assert workers, "no Python process below a TaskManager"
            workers[0].kill()
            flow.lift()
        assert flow.restarts > 0
    finally:
        savepoint = full_stage.rest.stop_with_savepoint(full_stage.job, savepoints)
        full_stage.resubmit(savepoint)


@pytest.mark.timeout(900)
def test_a_killed_kafka(full_stage: FullStage) -> None:
    """kill -9 of the broker, which is started again at once."""
    with after_checkpoint(full_stage, "kill -9 of the Kafka broker", 603) as flow:
        process.kill(full_stage.settings, kafka.NAME)
        flow.lift()
        full_stage.start_missing(kafka.NAME)


@pytest.mark.timeout(900)
def test_a_killed_opensearch(full_stage: FullStage) -> None:
    """kill -9 of OpenSearch, which is started again at once: no restart of the job."""
    with after_checkpoint(full_stage, "kill -9 of OpenSearch", 604) as flow:
        process.kill(full_stage.settings, opensearch.NAME)
        flow.lift()
        full_stage.start_missing(opensearch.NAME)
    assert flow.restarts == 0


@pytest.mark.timeout(900)
def test_a_suspended_taskmanager(full_stage: FullStage) -> None:
    """SIGSTOP for 30 s: the JobManager gives it up, and it returns with its tasks."""
    name = f"{flink_cluster.TASKMANAGER}1"
    with after_checkpoint(full_stage, "SIGSTOP of a TaskManager for 30 s", 605) as flow:
        manager = process.find_process(process.read_record(full_stage.settings, name))
        assert manager is not None
        manager.suspend()
        try:
            pass_time(SUSPENDED_SECONDS)
            assert manager.status() == psutil.STATUS_STOPPED
        finally:
            manager.resume()
        flow.lift()
        full_stage.start_missing(flink_cluster.NAME)
    assert flow.restarts > 0


@pytest.mark.timeout(900)
def test_checkpoints_that_cannot_be_written(full_stage: FullStage) -> None:
    """The checkpoint folder is replaced by a file (permissions do not apply to root)."""
    folder = full_stage.settings.data(flink_cluster.NAME) / "checkpoints"
    away = folder.with_name("checkpoints-away")
    with after_checkpoint(full_stage, "checkpoint folder unwritable", 606) as flow:
        folder.rename(away)
        folder.touch()
        try:
            wait_until(
                lambda: bool(full_stage.failures_since(flow.began)), "a checkpoint fails", 120
            )
            flow.wait_sent()
        finally:
            folder.unlink()
            away.rename(folder)
        flow.lift()


@pytest.mark.timeout(900)
def test_duplicated_input_out_of_order(full_stage: FullStage) -> None:
    """Duplicated and late events, and older versions after newer ones."""
    with scenario(
        full_stage, "repeated and out of order", seed=607, source=DisorderedHour, datasets=True
    ) as flow:
        flow.wait_sent()
        flow.lift()
    assert flow.restarts == 0
