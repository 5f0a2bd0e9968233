"""Malformed records among the others: each becomes a dead letter, and the job is not restarted."""

from __future__ import annotations

import pytest

from tests.faults.figures import check_clean, figures, write_figures
from tests.faults.stage import RATE, Stage
from verification.malformed import INTERACTION_REASONS


@pytest.mark.timeout(900)
def test_one_percent_of_malformed_records_restarts_nothing(stage: Stage) -> None:
    """1% malformed, of every kind, at 2,000 events/s: no restart, each is a dead letter."""
    stage.start()
    with stage.replaying(seconds=20, rate=RATE, seed=31) as replay:
        summary = replay.result(timeout=120)
    report = stage.verify()
    restarts = len(stage.failures())
    write_figures(
        "1% poison", figures(report, restarts=restarts, reasons=dict(report.dead_letters))
    )
    check_clean(report)
    assert restarts == 0, stage.failures()[0]
    assert summary.malformed >= 0.01 * summary.valid
    assert set(report.dead_letters) == {str(reason) for reason in INTERACTION_REASONS}
