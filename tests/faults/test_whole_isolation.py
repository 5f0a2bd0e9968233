"""Two minutes without Personalize: analytics keeps its pace, recommendations catches up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.pulse import FIREHOSE, OPENSEARCH
from tests.faults.whole import WholeStage, pass_time, scenario

RATE = 100
BEFORE_SECONDS, GONE_SECONDS, AFTER_SECONDS = 30, 120, 30

PACE = 0.9
"""Of the pace before, what is left of it at least."""


def calls(stage: WholeStage) -> tuple[int, int]:
    """Events that Personalize has accepted, and its PutEvents calls; since it was started."""
    stats = stage.personalize_stats()
    return stats["accepted_events"], stats["operations"]["PutEvents"]["succeeded"]


def outage(stage: WholeStage, name: str, seed: int) -> None:
    """The scenario and its figures."""
    seconds = BEFORE_SECONDS + GONE_SECONDS + AFTER_SECONDS
    with scenario(stage, name, seed=seed, seconds=seconds, rate=RATE, datasets=True) as flow:
        events, batches = calls(stage)
        pass_time(BEFORE_SECONDS)
        gone = flow.pulse.beats[-1].at
        now, made = calls(stage)
        flow.notes["events_a_call_before"] = round((now - events) / (made - batches), 2)
        with stage.without_personalize():
            pass_time(GONE_SECONDS)
            back = flow.pulse.beats[-1].at
        flow.lift()
        events, batches = calls(stage)
        pass_time(AFTER_SECONDS)
        now, made = calls(stage)
        flow.notes["events_a_call_after"] = round((now - events) / max(1, made - batches), 2)
        for destination in (FIREHOSE, OPENSEARCH):
            # The first seconds are those in which the flow begins.
            before = flow.pulse.rate(destination, gone - BEFORE_SECONDS + 10, gone)
            during = flow.pulse.rate(destination, gone, back)
            flow.notes[destination] = {
                "before": round(before, 1),
                "during": round(during, 1),
                "ratio": round(during / before, 3),
            }
    check_pace(flow.notes)
    assert flow.restarts == 0


def check_pace(notes: dict[str, Any]) -> None:
    """Analytics has kept its pace, and recommendations has made larger batches."""
    ratios = {name: notes[name]["ratio"] for name in (FIREHOSE, OPENSEARCH)}
    assert min(ratios.values()) >= PACE, ratios
    assert notes["events_a_call_after"] > 2 * notes["events_a_call_before"], notes


@pytest.mark.timeout(1200)
def test_pipelines_in_one_application(whole: WholeStage) -> None:
    """All three in one application."""
    outage(whole, "Personalize gone for 2 min: one application", 700)


@pytest.mark.timeout(1200)
def test_pipelines_apart(apart: WholeStage) -> None:
    """An application each."""
    outage(apart, "Personalize gone for 2 min: an application each", 701)
