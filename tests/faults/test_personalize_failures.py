"""Personalize throttles, fails, times out or is unavailable, and receives each event once."""

from __future__ import annotations

import pytest

from tests.faults.checkpoints import find_latest_checkpoint, wait_checkpoint
from tests.faults.plans import Plan
from tests.faults.results import check_clean, result_of, write_result
from tests.faults.stage import Stage
from tests.support.waiting import wait_until

RATE = 300

FAILURES: Plan = {
    "seed": 21,
    "rules": [
        {"operation": "PutEvents", "kind": "throttle", "rate": 0.3},
        {"operation": "PutEvents", "kind": "error500", "rate": 0.1},
        {"operation": "PutEvents", "kind": "error500", "rate": 0.05, "after_write": True},
        {"operation": "PutEvents", "kind": "disconnect", "rate": 0.05, "after_write": True},
        {"operation": "PutEvents", "kind": "timeout", "rate": 0.005, "seconds": 30},
        {
            "operation": "PutEvents",
            "kind": "timeout",
            "rate": 0.005,
            "seconds": 30,
            "after_write": True,
        },
    ],
}


@pytest.mark.timeout(900)
def test_throttling_errors_and_silence_lose_no_event(stage: Stage) -> None:
    """Calls that fail before or after they took effect are sent again; no event is lost."""
    stage.start()
    with stage.replaying(seconds=40, rate=RATE, seed=21) as replay:
        stage.put_faults(FAILURES)
        replay.result(timeout=120)
        fired = {
            (rule["kind"], rule["after_write"]): rule["fired"] for rule in stage.fault_report()
        }
        stage.clear_faults()
    report = stage.verify()
    restarts = len(stage.failures())
    faults = {f"{kind}{' after write' * after}": count for (kind, after), count in fired.items()}
    write_result(
        "Personalize throttles, fails, is silent",
        result_of(report, restarts=restarts, calls_failed=faults),
    )
    check_clean(report)
    assert restarts == 0, stage.failures()[0]
    assert min(fired.values()) > 0, f"a kind of failure did not occur: {faults}"
    assert report.duplicates_ignored > 0, "no call was sent again after it had taken effect"


@pytest.mark.timeout(900)
def test_twenty_seconds_without_personalize_lose_no_event(stage: Stage) -> None:
    """Personalize is killed and started again 20 s later; waiting events are delivered."""
    stage.start()
    with stage.replaying(seconds=40, rate=RATE, seed=22):
        wait_until(
            lambda: stage.personalize_stats()["accepted_events"] > 0, "an event is accepted", 30
        )
        with stage.without_personalize():
            before = stage.enriched_records()
            # For as long as this number of events takes to be published.
            wait_until(
                lambda: stage.enriched_records() >= before + 20 * RATE,
                "the enrichment continues without Personalize",
                60,
            )
    report = stage.verify()
    restarts = len(stage.failures())
    write_result("Personalize gone for 20 s", result_of(report, restarts=restarts))
    check_clean(report)
    assert restarts == 0, stage.failures()[0]


@pytest.mark.timeout(900)
def test_a_job_is_cancelled_while_personalize_is_unavailable(stage: Stage) -> None:
    """It ends while deliveries wait; restarted from its last checkpoint, it loses no event."""
    stage.start()
    with stage.replaying(seconds=40, rate=RATE, seed=23):
        wait_until(
            lambda: stage.personalize_stats()["accepted_events"] > 0, "an event is accepted", 30
        )
        wait_checkpoint(stage.rest, stage.job, 60)
        with stage.without_personalize():
            before = stage.enriched_records()
            wait_until(lambda: stage.enriched_records() > before + 5 * RATE, "deliveries wait", 60)
            stage.rest.cancel(stage.job, 60)
        checkpoint = find_latest_checkpoint(stage.settings)
        assert checkpoint is not None
        stage.submit(savepoint=checkpoint)
    report = stage.verify()
    write_result("cancelled while Personalize is gone", result_of(report))
    check_clean(report)
