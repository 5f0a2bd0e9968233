"""Malformed records: each becomes a dead letter, and the job is not restarted."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from deploy.dead_letters import read_dead_letters
from tests.faults.checkpoints import find_latest_checkpoint
from tests.faults.results import check_clean, result_of, write_result
from tests.faults.stage import RATE, Stage
from tests.support.waiting import wait_until
from verification.malformed import INTERACTION_REASONS


@pytest.mark.timeout(900)
def test_one_percent_of_malformed_records_restarts_nothing(stage: Stage) -> None:
    """1% malformed records of every kind at 2,000 events/s."""
    stage.start()
    with stage.replaying(seconds=20, rate=RATE, seed=31) as replay:
        summary = replay.result(timeout=120)
    report = stage.verify()
    restarts = len(stage.failures())
    write_result(
        "1% poison", result_of(report, restarts=restarts, reasons=dict(report.dead_letters))
    )
    check_clean(report)
    assert restarts == 0, stage.failures()[0]
    assert summary.malformed >= 0.01 * summary.valid
    assert set(report.dead_letters) == {str(reason) for reason in INTERACTION_REASONS}


@pytest.mark.timeout(600)
def test_a_deployment_that_reads_nothing_does_not_empty_a_topic(stage: Stage) -> None:
    """The pipeline stops at the limit and stays stopped over restarts; the position stays, too.

    Without the limit, the next submission continues where it was.
    """
    records, limit = 2_000, 50
    off, on = ({"dead.letters.max.consecutive": str(number)} for number in (0, limit))
    stage.start({"tunemesh.enrichment": on})
    producer = Producer({"bootstrap.servers": stage.settings.kafka.address})
    for number in range(records):
        producer.produce("interactions", f"malformed {number}", partition=number % 2)
    assert producer.flush(30) == 0
    wait_until(lambda: len(stage.failures()) >= 4, "the pipeline was restarted", 120)
    assert all("the pipeline enrichment stops: 50 of 50 records" in f for f in stage.failures())
    before = len(read_dead_letters(stage.endpoints))
    assert 0 < before < 2 * limit
    stage.rest.cancel(stage.job)
    stage.submit({"tunemesh.enrichment": off}, savepoint=find_latest_checkpoint(stage.settings))
    wait_until(
        lambda: len(read_dead_letters(stage.endpoints)) == records, "all are dead letters", 120
    )
    assert stage.failures() == []
