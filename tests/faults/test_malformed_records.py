"""Malformed records: each becomes a dead letter, and the job is not restarted."""

from __future__ import annotations

import pytest

from tests.faults.results import check_clean, result_of, write_result
from tests.faults.stage import RATE, Stage
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
