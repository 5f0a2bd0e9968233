"""The moment between a bootstrap and the stream: all that was published before is archived.

Interactions published before T come from the data product, the others from the stream
(`tunemesh.recommendations`, ``imported.until``). The product is made of what Firehose wrote, so an
export up to T is whole only when the jobs have brought everything before T to Firehose. Their
consumer groups say so: Flink commits what a checkpoint covers, and a checkpoint covers what its
destinations have accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from connectors.clock import SYSTEM_CLOCK, Clock
from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from jobs.settings import DEFAULT_GROUP_ID
from schemas.errors import TunemeshError
from schemas.model import Contracts, Role
from verification.progress import Progress, Step, silent

WAIT_SECONDS = 300.0
"""Some checkpoints, and what an application takes that is behind by a little."""

_POLL_SECONDS = 0.5


class NotArchived(TunemeshError):
    """Something published before the moment has not been archived in time."""


class Kafka(Protocol):
    """What is asked of Kafka; :class:`connectors.kafka.librdkafka.KafkaOffsets` answers."""

    def partitions(self, topics: list[str]) -> tuple[Partition, ...]:
        """Of the topics."""

    def ends(self, partitions: tuple[Partition, ...]) -> dict[Partition, int]:
        """Of each partition: the offset of the next record."""

    def since(self, partitions: tuple[Partition, ...], moment: int) -> dict[Partition, int]:
        """Of each partition: the first offset published at the moment or later."""

    def committed(self, group: str, partitions: tuple[Partition, ...]) -> dict[Partition, int]:
        """Of the group; 0 where it has committed nothing."""


def wait_archived(
    kafka: Kafka,
    contracts: Contracts,
    moment: int,
    *,
    group_id: str = DEFAULT_GROUP_ID,
    seconds: float = WAIT_SECONDS,
    clock: Clock = SYSTEM_CLOCK,
    progress: Progress = silent,
) -> None:
    """Return when all interactions published before the moment (epoch ms) are with Firehose.

    Not before the moment itself: call it after. Firehose writes what it has within its own
    buffering time, which is to be waited for as well; the laptop's writes at once. Raises
    :class:`NotArchived` after so many seconds, with the group that is behind.
    """
    deadline = clock.monotonic() + seconds

    def wait(what: str, group: str, wanted: Offsets) -> None:
        while True:
            try:
                behind = _behind(kafka.committed(group, tuple(wanted)), wanted)
                problem = f"{behind:,} record(s) behind"
            except OffsetsUnavailable as error:
                behind, problem = -1, str(error)
            if not behind:
                return
            progress(Step(f"waiting for {what}", note=problem))
            if clock.monotonic() >= deadline:
                raise NotArchived(
                    f"{what}: the consumer group {group} is not so far after {seconds:.0f} s"
                    f" ({problem}). Does the application run, and complete checkpoints?"
                    " See: tunemesh status"
                )
            clock.sleep(_POLL_SECONDS)

    def asked(question: Callable[[], dict[Partition, int]]) -> dict[Partition, int]:
        while True:
            try:
                return question()
            except OffsetsUnavailable as error:
                if clock.monotonic() >= deadline:
                    raise NotArchived(f"what was published cannot be told: {error}") from error
                clock.sleep(_POLL_SECONDS)

    def topic(role: Role) -> tuple[Partition, ...]:
        return kafka.partitions([contracts.only(role).topic])

    wait(
        "enriching what was published before the moment",
        f"{group_id}-enrichment",
        asked(lambda: kafka.since(topic(Role.INTERACTION), moment)),
    )
    # Enriched by now: whatever the topic has.
    wait(
        "archiving what was enriched",
        f"{group_id}-analytics-archive",
        asked(lambda: kafka.ends(topic(Role.ENRICHED))),
    )


def _behind(committed: Mapping[Partition, int], wanted: Offsets) -> int:
    return sum(max(0, offset - committed.get(place, 0)) for place, offset in wanted.items())
