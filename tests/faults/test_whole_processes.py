"""Processes are killed or stand still while all pipelines run; and input that is out of order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from deploy.local import flink, flink_cluster, kafka, opensearch, process
from tests.faults.restless import DisorderedHour
from tests.faults.whole import Flow, WholeStage, pass_time, scenario
from tests.support.waiting import wait_until

SECONDS = 20
"""Time for a checkpoint, and for some events after it."""

STOPPED_SECONDS = 30


@contextmanager
def struck(stage: WholeStage, name: str, seed: int) -> Iterator[Flow]:
    """A scenario whose block begins after a checkpoint, with events still to come."""
    with scenario(stage, name, seed=seed, seconds=SECONDS, datasets=True) as flow:
        stage.rest.wait_checkpoint(stage.job, 120)
        yield flow


@pytest.mark.timeout(900)
def test_a_killed_taskmanager(whole: WholeStage) -> None:
    """kill -9: its tasks restart from the last checkpoint in the one that replaces it."""
    with struck(whole, "kill -9 of a TaskManager", 600) as flow:
        whole.kill_taskmanager()
        flow.lift()
        whole.start_missing(flink_cluster.NAME)
    assert flow.restarts > 0


@pytest.mark.timeout(900)
def test_a_killed_jobmanager(whole: WholeStage) -> None:
    """kill -9 without high availability: submitted again from the last checkpoint."""
    with struck(whole, "kill -9 of the JobManager", 601) as flow:
        process.kill(whole.settings, flink_cluster.JOBMANAGER)
        flow.lift()
        whole.start_missing(flink_cluster.NAME)
        checkpoint = flink.latest_checkpoint(whole.settings)
        assert checkpoint is not None
        whole.resubmit(checkpoint)


@pytest.mark.timeout(900)
def test_a_killed_python_worker(whole: WholeStage) -> None:
    """Process mode, restored from a savepoint of thread mode: kill -9 of a process of functions."""
    savepoints = whole.settings.data(flink_cluster.NAME) / "savepoints"
    try:
        savepoint = whole.rest.stop_with_savepoint(whole.job, savepoints)
        whole.resubmit(savepoint, {"tunemesh.application": {"python.execution-mode": "process"}})
        with struck(whole, "kill -9 of a Python worker", 602) as flow:
            workers = whole.python_workers()
            assert workers, "no Python process below a TaskManager"
            workers[0].kill()
            flow.lift()
        assert flow.restarts > 0
    finally:
        savepoint = whole.rest.stop_with_savepoint(whole.job, savepoints)
        whole.resubmit(savepoint)


@pytest.mark.timeout(900)
def test_a_killed_kafka(whole: WholeStage) -> None:
    """kill -9 of the broker, which is started again at once."""
    with struck(whole, "kill -9 of the Kafka broker", 603) as flow:
        process.kill(whole.settings, kafka.NAME)
        flow.lift()
        whole.start_missing(kafka.NAME)


@pytest.mark.timeout(900)
def test_a_killed_opensearch(whole: WholeStage) -> None:
    """kill -9 of OpenSearch, which is started again at once: no restart of the job."""
    with struck(whole, "kill -9 of OpenSearch", 604) as flow:
        process.kill(whole.settings, opensearch.NAME)
        flow.lift()
        whole.start_missing(opensearch.NAME)
    assert flow.restarts == 0


@pytest.mark.timeout(900)
def test_a_taskmanager_that_stands_still(whole: WholeStage) -> None:
    """SIGSTOP for 30 s: given up by the JobManager, and back with what it had under way."""
    name = f"{flink_cluster.TASKMANAGER}1"
    with struck(whole, "SIGSTOP of a TaskManager for 30 s", 605) as flow:
        manager = process.find_process(process.read_record(whole.settings, name))
        assert manager is not None
        manager.suspend()
        try:
            pass_time(STOPPED_SECONDS)
            assert manager.status() == psutil.STATUS_STOPPED
        finally:
            manager.resume()
        flow.lift()
        whole.start_missing(flink_cluster.NAME)
    assert flow.restarts > 0


@pytest.mark.timeout(900)
def test_checkpoints_that_cannot_be_written(whole: WholeStage) -> None:
    """The folder of the checkpoints is a file for a while (a mode would not stop root)."""
    folder = whole.settings.data(flink_cluster.NAME) / "checkpoints"
    away = folder.with_name("checkpoints-away")
    with struck(whole, "checkpoint folder unwritable", 606) as flow:
        folder.rename(away)
        folder.touch()
        try:
            wait_until(lambda: bool(whole.failures_since(flow.began)), "a checkpoint fails", 120)
            flow.sent()
        finally:
            folder.unlink()
            away.rename(folder)
        flow.lift()


@pytest.mark.timeout(900)
def test_input_that_is_repeated_and_out_of_order(whole: WholeStage) -> None:
    """Events that come twice and later than younger ones, versions older than those before."""
    with scenario(
        whole, "repeated and out of order", seed=607, source=DisorderedHour, datasets=True
    ) as flow:
        flow.sent()
        flow.lift()
    assert flow.restarts == 0
