"""Delivery that an operator must correct: the job reports the problem and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.results import write_result
from tests.faults.stage import START_SECONDS, Stage
from tests.support.waiting import wait_until


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    """The platform, whose faults and job are removed after each test."""
    yield shared_stage
    shared_stage.clear_faults()
    if shared_stage.job:
        shared_stage.rest.cancel(shared_stage.job, 200)
        shared_stage.job = ""


def wait_for_failure(stage: Stage, scenario: str) -> str:
    """Send a few events; returns the exception of the job."""
    with stage.replaying(seconds=3, rate=100, seed=41, anomalies=False):
        seconds = wait_until(lambda: bool(stage.failures()), "the job fails", START_SECONDS)
    write_result(
        f"refused: {scenario}",
        {"told_after_s": round(seconds, 1), "state": stage.rest.job_status(stage.job)},
    )
    return stage.failures()[-1]


@pytest.mark.timeout(900)
def test_an_unknown_tracking_id_is_named(stage: Stage) -> None:
    """The job's exception has the service's message and what to check."""
    stage.submit({"tunemesh.recommendations": {"tracking.id": "no-such-tracker"}})
    reason = wait_for_failure(stage, "unknown tracking id")
    assert "No event tracker has the tracking id 'no-such-tracker'" in reason, reason
    assert "Check the tracking id and the region" in reason, reason


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "code", "advice"),
    [
        ("access_denied", "AccessDeniedException", "The role needs personalize:PutEvents"),
        (
            "unrecognized_client",
            "UnrecognizedClientException",
            "Check which credentials the process finds",
        ),
    ],
)
def test_refused_credentials_are_named(stage: Stage, kind: str, code: str, advice: str) -> None:
    """The job's exception has the service's error code and the missing permission."""
    stage.submit()
    stage.put_faults({"rules": [{"operation": "PutEvents", "kind": kind}]})
    reason = wait_for_failure(stage, kind)
    assert code in reason, reason
    assert advice in reason, reason
