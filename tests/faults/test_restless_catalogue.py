"""Users and items that change right before they are played; nothing else is wrong."""

from __future__ import annotations

import pytest

from tests.faults.figures import check_clean, figures, write_figures
from tests.faults.stage import Stage


@pytest.mark.timeout(900)
def test_a_change_right_before_a_play_is_attached(stage: Stage) -> None:
    """A user or item published milliseconds before its event is the version attached."""
    stage.start()
    with stage.replaying(seconds=30, rate=300, seed=51, anomalies=False, restless=True):
        pass
    report = stage.verify()
    restarts = len(stage.failures())
    write_figures("changes right before plays", figures(report, restarts=restarts))
    check_clean(report)
    assert restarts == 0
