"""Two minutes without Personalize: analytics keeps its rate, recommendations catches up."""

from __future__ import annotations

import pytest

from tests.faults.arrivals import FIREHOSE, OPENSEARCH
from tests.faults.full_stage import FullStage, pass_time, scenario

RATE = 100
BEFORE_SECONDS, OUTAGE_SECONDS, AFTER_SECONDS = 30, 120, 30

MIN_RATE_SHARE = 0.9
"""The fraction of the published rate that analytics delivers during the outage."""


def count_events_and_calls(stage: FullStage) -> tuple[int, int]:
    """Return the accepted events and the PutEvents calls since the start of Personalize."""
    stats = stage.personalize_stats()
    return stats["accepted_events"], stats["operations"]["PutEvents"]["succeeded"]


def run_outage(stage: FullStage, name: str, seed: int) -> None:
    """Run the scenario."""
    seconds = BEFORE_SECONDS + OUTAGE_SECONDS + AFTER_SECONDS
    with scenario(stage, name, seed=seed, seconds=seconds, rate=RATE, datasets=True) as flow:
        events, calls = count_events_and_calls(stage)
        pass_time(BEFORE_SECONDS)
        outage_start = flow.monitor.samples[-1].at
        now, calls_now = count_events_and_calls(stage)
        flow.notes["events_a_call_before"] = round((now - events) / (calls_now - calls), 2)
        with stage.without_personalize():
            pass_time(OUTAGE_SECONDS)
            outage_end = flow.monitor.samples[-1].at
        flow.lift()
        events, calls = count_events_and_calls(stage)
        pass_time(AFTER_SECONDS)
        now, calls_now = count_events_and_calls(stage)
        flow.notes["events_a_call_after"] = round((now - events) / max(1, calls_now - calls), 2)
        for destination in (FIREHOSE, OPENSEARCH):
            # Without the first seconds, in which the flow begins.
            start = outage_start - BEFORE_SECONDS / 2
            before = flow.monitor.rate(destination, start, outage_start)
            during = flow.monitor.rate(destination, outage_start, outage_end)
            flow.notes[f"{destination} events/s"] = {
                "before": round(before, 1),
                "during": round(during, 1),
                "published": RATE,
            }
            assert during >= MIN_RATE_SHARE * RATE, flow.notes
    assert flow.notes["events_a_call_after"] > flow.notes["events_a_call_before"], flow.notes
    assert flow.restarts == 0


@pytest.mark.timeout(1200)
def test_pipelines_in_one_application(full_stage: FullStage) -> None:
    """All three in one application."""
    run_outage(full_stage, "Personalize gone for 2 min: one application", 700)


@pytest.mark.timeout(1200)
def test_pipelines_apart(split_stage: FullStage) -> None:
    """In an application each."""
    run_outage(split_stage, "Personalize gone for 2 min: an application each", 701)
