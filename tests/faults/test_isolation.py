"""Two minutes without Personalize: analytics keeps its pace, recommendations catches up."""

from __future__ import annotations

import pytest

from tests.faults.full_stage import FullStage, pass_time, scenario
from tests.faults.pulse import FIREHOSE, OPENSEARCH

RATE = 100
BEFORE_SECONDS, GONE_SECONDS, AFTER_SECONDS = 30, 120, 30

PACE = 0.9
"""Of the events that are published, the share that analytics delivers at least meanwhile."""


def calls(stage: FullStage) -> tuple[int, int]:
    """Events that Personalize has accepted, and its PutEvents calls; since it was started."""
    stats = stage.personalize_stats()
    return stats["accepted_events"], stats["operations"]["PutEvents"]["succeeded"]


def outage(stage: FullStage, name: str, seed: int) -> None:
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
            before = flow.pulse.rate(destination, gone - BEFORE_SECONDS / 2, gone)
            during = flow.pulse.rate(destination, gone, back)
            flow.notes[f"{destination} events/s"] = {
                "before": round(before, 1),
                "during": round(during, 1),
                "published": RATE,
            }
            assert during >= PACE * RATE, flow.notes
    assert flow.notes["events_a_call_after"] > flow.notes["events_a_call_before"], flow.notes
    assert flow.restarts == 0


@pytest.mark.timeout(1200)
def test_pipelines_in_one_application(full_stage: FullStage) -> None:
    """All three in one application."""
    outage(full_stage, "Personalize gone for 2 min: one application", 700)


@pytest.mark.timeout(1200)
def test_pipelines_apart(split_stage: FullStage) -> None:
    """An application each."""
    outage(split_stage, "Personalize gone for 2 min: an application each", 701)
