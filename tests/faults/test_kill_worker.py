"""Workers are killed during a replay: no event is lost, invented or wrongly enriched."""

from __future__ import annotations

import time

import pytest

from tests.faults.checkpoints import wait_checkpoint
from tests.faults.results import check_clean, result_of, write_result
from tests.faults.stage import RATE, Stage
from tests.support.waiting import wait_until
from verification.verify import VerifyReport

SECONDS = 40

TOO_SLOW = "the replay ended before a checkpoint: the machine is too busy for this test"


def check_restarted(stage: Stage, scenario: str, killed: float, report: VerifyReport) -> None:
    """Check that the job was restarted, and write the recovery."""
    recovery = stage.recovery(killed)
    restarts = len(stage.failures())
    write_result(
        scenario,
        result_of(
            report,
            restarts=restarts,
            flowing_again_s=recovery.flowing_s,
            silence_s=recovery.silence_s,
            recovery_s=recovery.caught_up_s,
        ),
    )
    assert restarts >= 1


@pytest.mark.timeout(900)
def test_a_killed_taskmanager_loses_no_event(stage: Stage) -> None:
    """kill -9 of a TaskManager during a replay with anomalies: verify is clean."""
    stage.start()
    with stage.replaying(seconds=SECONDS, rate=RATE, seed=11, changing=True) as replay:
        wait_checkpoint(stage.rest, stage.job)
        assert not replay.done(), TOO_SLOW
        killed = stage.kill_taskmanager()
        stage.start_missing("flink")
    report = stage.verify()
    check_restarted(stage, "taskmanager killed, thread mode", killed, report)
    check_clean(report)


@pytest.mark.timeout(900)
def test_a_killed_python_worker_loses_no_event(stage: Stage) -> None:
    """kill -9 of a Python worker in process mode during such a replay: verify is clean."""
    stage.start({"tunemesh.application": {"python.execution-mode": "process"}})
    with stage.replaying(seconds=SECONDS, rate=RATE, seed=12, changing=True) as replay:
        wait_checkpoint(stage.rest, stage.job)
        assert not replay.done(), TOO_SLOW
        workers = stage.python_workers()
        assert workers, "no Python process below a TaskManager"
        killed = time.time()
        workers[0].kill()
        wait_until(lambda: bool(stage.failures()), "the job is restarted", 60)
    report = stage.verify()
    check_restarted(stage, "python worker killed, process mode", killed, report)
    check_clean(report)
