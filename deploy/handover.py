"""The hand-over from import to stream: waits until everything published before T is archived.

Interactions published before T come from the data product, later ones from the stream
(`tunemesh.recommendations`, ``imported.until``). The product is made from what Firehose wrote, so
an export up to T is complete only when the jobs have delivered everything before T to Firehose.
Their consumer groups show that: Flink commits the offsets that a checkpoint covers, and a
checkpoint covers what its destinations have accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from connectors.clock import SYSTEM_CLOCK, Clock
from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from jobs.metrics import FLOWS
from jobs.settings import DEFAULT_GROUP_ID
from schemas.errors import TunemeshError, counted
from schemas.model import Contracts, Role
from verification.progress import Progress, Step, silent

WAIT_SECONDS = 300.0
"""Time for some checkpoints, and for an application that is slightly behind."""

FIRST_COMMIT_SECONDS = 120.0
"""Time until a group that has committed nothing must have: Managed Flink's checkpoints are a minute
apart."""

_POLL_SECONDS = 0.5
_FLOWS = {flow.function: flow for flow in FLOWS}

T = TypeVar("T")


class NotArchived(TunemeshError):
    """Something published before T has not been archived in time."""


class Kafka(Protocol):
    """The offsets of Kafka, as :class:`connectors.kafka.librdkafka.KafkaOffsets` reads them."""

    def partitions(self, topics: list[str]) -> tuple[Partition, ...]:
        """Return the partitions of the topics."""

    def ends(self, partitions: tuple[Partition, ...]) -> dict[Partition, int]:
        """Return the offset of each partition's next record."""

    def since(self, partitions: tuple[Partition, ...], timestamp_ms: int) -> dict[Partition, int]:
        """Return each partition's first offset published at the time or later."""

    def committed(self, group: str, partitions: tuple[Partition, ...]) -> dict[Partition, int]:
        """Return the group's offsets; 0 where it has committed none."""

    def first_records(self, positions: Offsets) -> dict[Partition, int]:
        """Return the offset of the first record at each position or later, else the end."""


def wait_archived(
    kafka: Kafka,
    contracts: Contracts,
    timestamp_ms: int,
    *,
    group_id: str = DEFAULT_GROUP_ID,
    seconds: float = WAIT_SECONDS,
    clock: Clock = SYSTEM_CLOCK,
    progress: Progress = silent,
) -> None:
    """Return when Firehose has all interactions published before T (epoch ms), which must be past.

    Firehose writes them within its own buffering time, which is not waited for here; the local
    platform's writes at once. Raises :class:`NotArchived` after ``seconds``, with the group that is
    behind, and after two minutes if a group has never committed anything.
    """
    began = clock.monotonic()
    deadline = began + seconds

    def retry(call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except OffsetsUnavailable as error:
                if clock.monotonic() >= deadline:
                    raise NotArchived(f"offsets cannot be read: {error}") from error
                progress(Step("waiting for offsets", note=str(error)))
                clock.sleep(_POLL_SECONDS)

    def wait_committed(what: str, function: str, wanted: Offsets) -> None:
        flow = _FLOWS[function]
        group = f"{group_id}-{flow.group}"
        whose = f"the consumer group {group} of the pipeline {flow.pipeline}"
        while True:
            committed = retry(lambda: kafka.committed(group, tuple(wanted)))
            unread = {p: committed.get(p, 0) for p in wanted if committed.get(p, 0) < wanted[p]}
            # Not every offset is a record: the group's can stay before a transaction's marker.
            records = retry(partial(kafka.first_records, unread))
            behind = sum(max(0, wanted[p] - record) for p, record in records.items())
            if not behind:
                return
            has_committed = any(committed.values())
            note = f"{counted(behind, 'record')} behind"
            if not has_committed:
                note += f"; {whose} has committed nothing yet"
            progress(Step(f"waiting for {what}", note=note))
            if not has_committed and clock.monotonic() - began >= FIRST_COMMIT_SECONDS:
                raise NotArchived(
                    f"{what}: {whose} has committed nothing. No application with this pipeline"
                    " runs, or it completes no checkpoint: tunemesh status"
                )
            if clock.monotonic() >= deadline:
                raise NotArchived(
                    f"{what}: after {seconds:.0f} s {whose} is still"
                    f" {counted(behind, 'record')} behind. Check that the application runs and"
                    " completes checkpoints: tunemesh status"
                )
            clock.sleep(_POLL_SECONDS)

    def partitions(role: Role) -> tuple[Partition, ...]:
        return kafka.partitions([contracts.only(role).topic])

    wait_committed(
        "enriching interactions published before the hand-over time",
        "decode_interaction",
        retry(lambda: kafka.since(partitions(Role.INTERACTION), timestamp_ms)),
    )
    # All of them have been enriched now, so the topic has them.
    wait_committed(
        "archiving enriched interactions",
        "archive_events",
        retry(lambda: kafka.ends(partitions(Role.ENRICHED))),
    )
