"""Users and items that change directly before they are played, without other anomalies."""

from __future__ import annotations

import pytest

from tests.faults.results import check_clean, result_of, write_result
from tests.faults.stage import Stage


@pytest.mark.timeout(900)
def test_a_change_directly_before_a_play_is_attached(stage: Stage) -> None:
    """The attached version was published milliseconds before its event."""
    stage.start()
    with stage.replaying(seconds=30, rate=300, seed=51, anomalies=False, changing=True):
        pass
    report = stage.verify()
    restarts = len(stage.failures())
    write_result("changes right before plays", result_of(report, restarts=restarts))
    check_clean(report)
    assert restarts == 0
