"""Each destination with each kind of failure, with all pipelines in one application."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.full_stage import FIREHOSE, OPENSEARCH, PERSONALIZE, FullStage, scenario
from tests.faults.opensearch_proxy import OPERATION as BULK


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination in fault plans.

    ``has_large_calls``: it receives a few large calls per second, of which a higher fraction must
    fail than of many small ones.
    """

    name: str
    service: str
    operations: tuple[str, ...]
    has_large_calls: bool

    @property
    def has_datasets(self) -> bool:
        """Whether it stores users or items."""
        return self.operations[0] != "PutEvents" and self.service == PERSONALIZE


DESTINATIONS = (
    Destination("PutEvents", PERSONALIZE, ("PutEvents",), has_large_calls=False),
    Destination(
        "PutUsers and PutItems", PERSONALIZE, ("PutUsers", "PutItems"), has_large_calls=True
    ),
    Destination("Firehose", FIREHOSE, ("PutRecordBatch",), has_large_calls=True),
    Destination("OpenSearch", OPENSEARCH, (BULK,), has_large_calls=True),
)

Rules = tuple[Mapping[str, Any], ...]

HELD_SECONDS = 30
"""A call without a response is held for longer than the timeout of its client."""

FAILURES: Mapping[str, tuple[Rules, Rules]] = {
    # By kind: rules for many small calls, and for a few large ones.
    "throttles 30%": (({"kind": "throttle", "rate": 0.3},), ({"kind": "throttle", "rate": 0.3},)),
    "500 and 503 10%": (
        (
            {"kind": "error500", "rate": 0.05},
            {"kind": "error500", "rate": 0.025, "after_write": True},
            {"kind": "error503", "rate": 0.025},
        ),
        (
            {"kind": "error500", "rate": 1, "skip": 3, "first": 2, "after_write": True},
            {"kind": "error500", "rate": 0.1},
            {"kind": "error503", "rate": 0.1},
        ),
    ),
    "times out": (
        (
            {"kind": "timeout", "rate": 0.005, "seconds": HELD_SECONDS},
            {"kind": "timeout", "rate": 0.005, "seconds": HELD_SECONDS, "after_write": True},
        ),
        (
            {"kind": "timeout", "rate": 1, "seconds": HELD_SECONDS, "skip": 3, "first": 2},
            {"kind": "timeout", "rate": 0.1, "seconds": HELD_SECONDS, "after_write": True},
        ),
    ),
    "answers 2 s late": (({"kind": "slow", "seconds": 2},), ({"kind": "slow", "seconds": 2},)),
    "fails in part": ((), ({"kind": "partial", "rate": 0.5, "share": 0.1},)),
}


@contextmanager
def failing(stage: FullStage, destination: Destination, rules: Rules, seed: int) -> Iterator[None]:
    """Let the destination fail by rules; checks at the end that each one has fired."""
    plans = stage.faults[destination.service]
    named = [{"operation": name, **rule} for name in destination.operations for rule in rules]
    plans.put({"seed": seed, "rules": named})
    try:
        yield
        fired: dict[str, int] = {}
        for rule in plans.report():
            kind = f"{rule['kind']}{' after write' * rule['after_write']}"
            fired[kind] = fired.get(kind, 0) + rule["fired"]
    finally:
        plans.clear()
    assert min(fired.values()) > 0, f"a kind of failure did not occur: {fired}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("destination", DESTINATIONS, ids=lambda destination: destination.name)
def test_failures_lose_no_event(full_stage: FullStage, destination: Destination, kind: str) -> None:
    """All events are delivered, and the job is not restarted."""
    rules = FAILURES[kind][destination.has_large_calls]
    if kind == "fails in part" and destination.service == PERSONALIZE:
        pytest.skip("Personalize stores all records of a call or none")
    seed = 100 + len(kind) + 20 * DESTINATIONS.index(destination)
    name = f"{destination.name} {kind}"
    with scenario(full_stage, name, seed=seed, datasets=destination.has_datasets) as flow:
        with failing(full_stage, destination, rules, seed):
            flow.wait_sent()
        flow.lift()
    assert flow.restarts == 0
