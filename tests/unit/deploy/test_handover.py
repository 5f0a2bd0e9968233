"""The wait until everything published before the hand-over time is archived."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.clock import Clock
from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from deploy.handover import NotArchived, wait_archived
from schemas.model import load_contracts
from verification.progress import Progress, Step, silent

CONTRACTS = load_contracts()
HAND_OVER_MS = 1_000
P0, P1 = ("interactions", 0), ("interactions", 1)
E0, E1 = ("interactions-enriched", 0), ("interactions-enriched", 1)
ENRICHMENT, ARCHIVE = "tunemesh-enrichment", "tunemesh-analytics-archive"


class Kafka:
    """Topics of two partitions, whose groups read a record per poll."""

    def __init__(self) -> None:
        self.now = 0.0
        self.first_since = {P0: 3, P1: 5}
        self.enriched = {E0: 10, E1: 2}
        self.groups = {ENRICHMENT: {P0: 3, P1: 0}, ARCHIVE: {E0: 0, E1: 9}}
        self.stuck: set[str] = set()
        self.unavailable_until = 0.0
        self.ends_read_at = -1.0
        self.markers: set[tuple[Partition, int]] = set()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for group, offsets in self.groups.items():
            if group not in self.stuck:
                for partition in offsets:
                    offsets[partition] += 1

    def partitions(self, topics: list[str]) -> tuple[Partition, ...]:
        self._answer()
        return tuple((topic, number) for topic in topics for number in (0, 1))

    def ends(self, partitions: tuple[Partition, ...]) -> dict[Partition, int]:
        self._answer()
        self.ends_read_at = self.now
        # Enriched with what the group has read.
        return {partition: self.enriched[partition] for partition in partitions}

    def since(self, partitions: tuple[Partition, ...], timestamp_ms: int) -> dict[Partition, int]:
        self._answer()
        assert timestamp_ms == HAND_OVER_MS
        return {partition: self.first_since[partition] for partition in partitions}

    def committed(self, group: str, partitions: tuple[Partition, ...]) -> dict[Partition, int]:
        self._answer()
        return {p: self.groups[group][p] for p in partitions if p in self.groups[group]}

    def first_records(self, positions: Offsets) -> dict[Partition, int]:
        self._answer()
        records = {}
        for partition, position in positions.items():
            records[partition] = position
            while (partition, records[partition]) in self.markers:
                records[partition] += 1
        return records

    def _answer(self) -> None:
        if self.now < self.unavailable_until:
            raise OffsetsUnavailable("Kafka does not answer")


def wait(kafka: Kafka, seconds: float = 60, progress: Progress = silent) -> None:
    wait_archived(
        kafka,
        CONTRACTS,
        HAND_OVER_MS,
        seconds=seconds,
        progress=progress,
        clock=Clock(monotonic=lambda: kafka.now, sleep=kafka.sleep),
    )


def test_both_groups_are_waited_for_in_their_order() -> None:
    """The ends of the enriched topic are read when the first group has caught up."""
    kafka = Kafka()
    wait(kafka)
    assert kafka.ends_read_at == 2.5, "the second partition was five records behind"
    assert kafka.groups[ARCHIVE][E0] == 10


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"stuck": {ENRICHMENT}},
            f"after 60 s the consumer group {ENRICHMENT} of .* is still .* record",
        ),
        ({"stuck": {ARCHIVE}}, f"after 60 s the consumer group {ARCHIVE} of .* is still .* record"),
        # A group without offsets has read nothing: its pipeline has never run.
        ({"groups": {ENRICHMENT: {P0: 3, P1: 0}, ARCHIVE: {}}}, f"{ARCHIVE}.*12 record"),
        ({"unavailable_until": 1_000}, "does not answer"),
    ],
    ids=["enrichment", "archive", "no offsets", "no broker"],
)
def test_the_reason_of_a_wait_without_end_is_named(state: dict[str, Any], message: str) -> None:
    """The group and how far it is behind, or that Kafka does not answer."""
    kafka = Kafka()
    vars(kafka).update(state)
    with pytest.raises(NotArchived, match=message):
        wait(kafka)


def test_offsets_are_read_again_while_the_broker_is_unavailable() -> None:
    """Until the deadline."""
    kafka = Kafka()
    kafka.unavailable_until = 7
    wait(kafka)
    assert kafka.now >= 7


def test_a_pipeline_that_does_not_run_is_named() -> None:
    """At once in the progress, and as the reason well before the limit."""
    kafka = Kafka()
    kafka.groups[ARCHIVE] = {}
    steps: list[Step] = []
    with pytest.raises(NotArchived, match="of the pipeline analytics has committed nothing"):
        wait(kafka, 300, steps.append)
    assert kafka.now == pytest.approx(120, abs=1)
    (waiting,) = {step.note for step in steps if step.name.startswith("waiting for archiving")}
    assert waiting == (
        f"12 records behind; the consumer group {ARCHIVE} of the pipeline analytics has committed"
        " nothing yet"
    )


def test_markers_of_transactions_are_not_waited_for() -> None:
    """A group's offset stays before them, and there is nothing to archive."""
    kafka = Kafka()
    kafka.groups = {ENRICHMENT: {P0: 2, P1: 5}, ARCHIVE: {E0: 8, E1: 2}}
    kafka.markers = {(P0, 2), (E0, 8), (E0, 9)}
    kafka.stuck = {ENRICHMENT, ARCHIVE}
    wait(kafka)
    assert kafka.now == 0
