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
    """What a fault plan calls a destination. ``few``: it takes a few large calls a second, so that
    as many of them must fail as of many small ones for anything to happen."""

    name: str
    service: str
    operations: tuple[str, ...]
    few: bool

    @property
    def datasets(self) -> bool:
        """Whether it holds users or items."""
        return self.operations[0] != "PutEvents" and self.service == PERSONALIZE


DESTINATIONS = (
    Destination("PutEvents", PERSONALIZE, ("PutEvents",), few=False),
    Destination("PutUsers and PutItems", PERSONALIZE, ("PutUsers", "PutItems"), few=True),
    Destination("Firehose", FIREHOSE, ("PutRecordBatch",), few=True),
    Destination("OpenSearch", OPENSEARCH, (BULK,), few=True),
)

Rules = tuple[Mapping[str, Any], ...]

HELD_SECONDS = 30
"""A call without an answer is held for longer than its client waits."""

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
            {"kind": "error500", "rate": 0.1},
            {"kind": "error500", "rate": 0.05, "after_write": True},
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
    """The destination fails by these rules; each must have fired at the end."""
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
    assert min(fired.values()) > 0, f"a kind of failure never happened: {fired}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("destination", DESTINATIONS, ids=lambda one: one.name)
def test_failures_lose_no_event(full_stage: FullStage, destination: Destination, kind: str) -> None:
    """While events flow calls fail; everything arrives, and the job is not restarted."""
    rules = FAILURES[kind][destination.few]
    if kind == "fails in part" and destination.service == PERSONALIZE:
        pytest.skip("Personalize takes a call as a whole or not at all")
    seed = 100 + len(kind) + 20 * DESTINATIONS.index(destination)
    name = f"{destination.name} {kind}"
    with scenario(full_stage, name, seed=seed, datasets=destination.datasets) as flow:
        with failing(full_stage, destination, rules, seed):
            flow.wait_sent()
        flow.lift()
    assert flow.restarts == 0
