"""Offsets of topics and consumer groups, read from Kafka by Python.

Flink's Kafka source does not show its functions how far it has read; the broker has the ends of
topics, and keeps offsets for any group.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from connectors.aws.secrets import resolve_secrets
from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition

CALL_SECONDS = 10.0

LOGGER = logging.getLogger("librdkafka")
"""For the property ``logger`` of a client, which writes to standard error without it."""


class KafkaOffsets:
    """End offsets of topics, and committed offsets of consumer groups.

    ``client`` are librdkafka properties, for security beside the bootstrap servers; they may refer
    to secrets (:mod:`connectors.aws.secrets`). Every call blocks for at most ten seconds and raises
    OffsetsUnavailable.

    A librdkafka client that has lost a broker keeps the leader epoch of that time and sends it
    indefinitely (``FENCED_LEADER_EPOCH``, 2.16.1). So each error ends the client.
    """

    def __init__(self, bootstrap_servers: str, client: Mapping[str, Any]) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._properties = client
        self._client: AdminClient | None = None
        self._consumer: Consumer | None = None

    @property
    def _settings(self) -> dict[str, Any]:
        # For each client anew: a secret may have been rotated.
        return {
            "bootstrap.servers": self._bootstrap_servers,
            **resolve_secrets(self._properties),
            "client.id": "tunemesh-freshness",
            "logger": LOGGER,
        }

    @property
    def _admin(self) -> AdminClient:
        if self._client is None:
            self._client = AdminClient(self._settings)
        return self._client

    def partitions(self, topics: Iterable[str]) -> tuple[Partition, ...]:
        """Return every partition of the topics; raises OffsetsUnavailable for a missing topic."""
        names = list(topics)
        known = self._call(lambda: self._admin.list_topics(timeout=CALL_SECONDS)).topics
        missing = [topic for topic in names if topic not in known]
        if missing:
            raise OffsetsUnavailable(f"Kafka has no topic {', '.join(missing)}")
        return tuple(
            (topic, number) for topic in names for number in sorted(known[topic].partitions)
        )

    def timestamp_types(self, topics: Iterable[str]) -> dict[str, str]:
        """Return each topic's message.timestamp.type: CreateTime or LogAppendTime.

        The principal needs the right to describe the topics' configuration.
        """
        request = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
        futures = self._call(
            lambda: self._admin.describe_configs(request, request_timeout=CALL_SECONDS)
        )
        return {
            resource.name: self._call(future.result)["message.timestamp.type"].value
            for resource, future in futures.items()
        }

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the offset after the last one of each partition that a reader of committed records
        may read: of an open transaction's first record, else of the next record."""
        return self._list(partitions, OffsetSpec.latest())

    def log_ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the offset of the next record of each partition, after those of open
        transactions."""
        return self._list(partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)

    def first_records(self, positions: Offsets) -> dict[Partition, int]:
        """Return the offset of the first committed record of each partition at its position or
        later; the partition's end where there is none.

        Not every offset is a record: a transaction ends with a marker, an aborted one leaves its
        records, compaction and retention leave gaps. Where the position is beyond the end, the
        topic was recreated: the result is then that of the oldest record. Raises
        OffsetsUnavailable, also for a position in a transaction that is open.
        """
        records: dict[Partition, int] = {}
        deadline = time.monotonic() + CALL_SECONDS
        consumer = self._reader
        self._call(lambda: consumer.assign([TopicPartition(*p, o) for p, o in positions.items()]))
        while len(records) < len(positions):
            message = consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                self._close_reader()
                raise OffsetsUnavailable(f"Kafka does not answer within {CALL_SECONDS:.0f} s")
            if (error := message.error()) is not None and error.code() != KafkaError._PARTITION_EOF:
                self._close_reader()
                raise OffsetsUnavailable(f"Kafka does not answer: {error}")
            records.setdefault((message.topic(), message.partition()), message.offset())
        self._call(consumer.unassign)
        return records

    @property
    def _reader(self) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(
                {
                    **self._settings,
                    "group.id": "tunemesh-offsets",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "isolation.level": "read_committed",
                    "auto.offset.reset": "earliest",
                    # Of interest is one offset: the broker sends one batch at the least.
                    "fetch.message.max.bytes": 1,
                    "fetch.wait.max.ms": 10,
                }
            )
        return self._consumer

    def _close_reader(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def since(self, partitions: Iterable[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """Return the offset of the first record of each partition that was published at that time
        or later; of the next record where there is none."""
        partitions = list(partitions)
        ends = self.ends(partitions)
        offsets = self._list(partitions, OffsetSpec.for_timestamp(timestamp_ms))
        return {
            partition: offset if offset >= 0 else ends[partition]
            for partition, offset in offsets.items()
        }

    def _list(
        self,
        partitions: Iterable[Partition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> dict[Partition, int]:
        request = {TopicPartition(topic, number): spec for topic, number in partitions}
        futures = self._call(
            lambda: self._admin.list_offsets(
                request,
                isolation_level=isolation,
                request_timeout=CALL_SECONDS,
            )
        )
        return {
            (partition.topic, partition.partition): self._call(future.result).offset
            for partition, future in futures.items()
        }

    def committed(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return what the group has committed; 0 where it has nothing."""
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(*p) for p in partitions])
        futures = self._call(
            lambda: self._admin.list_consumer_group_offsets([request], request_timeout=CALL_SECONDS)
        )
        answer = self._call(futures[group].result)
        return {
            (entry.topic, entry.partition): max(entry.offset, 0)
            for entry in answer.topic_partitions
        }

    def commit(self, group: str, offsets: Offsets) -> None:
        """Commit for a group without members."""
        request = ConsumerGroupTopicPartitions(
            group,
            [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()],
        )
        futures = self._call(
            lambda: self._admin.alter_consumer_group_offsets(
                [request], request_timeout=CALL_SECONDS
            )
        )
        self._call(futures[group].result)

    def _call(self, work: Any) -> Any:
        try:
            return work()
        except KafkaException as error:
            self._client = None
            raise OffsetsUnavailable(f"Kafka does not answer: {error}") from error
