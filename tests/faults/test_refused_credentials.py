"""Delivery that a person has to put right: the job says what is wrong and what to do."""

from __future__ import annotations

import pytest

from tests.faults.stage import Stage, until, write_figures


def reason_of_restart(stage: Stage) -> str:
    """Wait until the job has failed once; returns the exception that Flink shows for it."""
    seconds = until(lambda: bool(stage.rest.job_exception(stage.job)), 60, "the job does not fail")
    write_figures(
        f"refused: {stage.name}",
        {"told_after_s": round(seconds, 1), "state": stage.rest.job_status(stage.job)},
    )
    return stage.rest.job_exception(stage.job)


def send_some(stage: Stage) -> None:
    """A few seconds of events."""
    with stage.replaying(seconds=3, rate=100, seed=41, dirt=False):
        pass


@pytest.mark.timeout(240)
def test_an_unknown_tracking_id_is_named(stage: Stage) -> None:
    """The job's exception has the service's answer and names what to check."""
    stage.start({"tunemesh.recommendations": {"tracking.id": "no-such-tracker"}})
    send_some(stage)
    reason = reason_of_restart(stage)
    assert "Delivery to Personalize PutEvents" in reason, reason
    assert "Check the tracking id and the region" in reason, reason


@pytest.mark.timeout(240)
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
    """The job's exception has the service's error code and says what the role or key lacks."""
    stage.start()
    stage.put_faults({"rules": [{"operation": "PutEvents", "kind": kind}]})
    send_some(stage)
    reason = reason_of_restart(stage)
    assert code in reason, reason
    assert advice in reason, reason
