"""Kafka clients of the operator's commands: offsets, readers and producers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, Self

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from connectors.aws.secrets import resolve_secrets
from connectors.kafka.librdkafka import LOGGER
from schemas.errors import TunemeshError

CONTACT_SECONDS = 5.0
"""Limit of the first request to a broker."""

FLUSH_SECONDS = 60.0
_CALL_SECONDS = 10.0
_BATCH = 5_000
_MAX_EMPTY_READS = 10
_TRANSIENT = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


Client = Mapping[str, str]
"""Properties of librdkafka, such as those of security; they may refer to secrets."""

NO_PROPERTIES: Client = {}


class KafkaUnavailable(TunemeshError):
    """Kafka does not answer, or a topic does not exist."""


def _unreachable(bootstrap_servers: str, error: KafkaException) -> KafkaUnavailable:
    return KafkaUnavailable(
        f"the service kafka does not answer at {bootstrap_servers} ({error.args[0].str()})."
        " Start it: tunemesh up kafka"
    )


class RecordProducer(Protocol):
    """What a replay needs of a producer."""

    def produce(self, topic: str, **record: Any) -> None:
        """Queue a record; raises BufferError while the queue is full."""

    def poll(self, timeout: float) -> int:
        """Serve delivery reports; returns how many."""

    def flush(self, timeout: float) -> int:
        """Wait until all records are visible to readers; returns how many are not."""


ProducerFactory = Callable[[str, Mapping[str, Any]], RecordProducer]
"""Creates a producer from the bootstrap servers and librdkafka's settings."""


def create_producer(bootstrap_servers: str, settings: Mapping[str, Any]) -> Producer:
    """Return a producer without duplicates that partitions as Java's producers do."""
    return Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "logger": LOGGER,
            **settings,
        }
    )


def produce(producer: RecordProducer, topic: str, **record: Any) -> None:
    """Queue a record; blocks while the queue is full. Raises KafkaException."""
    while True:
        try:
            producer.produce(topic, **record)
            return
        except BufferError:
            producer.poll(0.05)


def _consumer(bootstrap_servers: str, client: Client) -> Consumer:
    return Consumer(
        {
            **resolve_secrets(client),
            "bootstrap.servers": bootstrap_servers,
            "group.id": "tunemesh-verification",
            "client.id": "tunemesh-verification",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 4_194_304,
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 32_768,
            "logger": LOGGER,
        }
    )


def cluster_id(bootstrap_servers: str) -> str:
    """Return the id of the Kafka cluster; raises KafkaUnavailable."""
    client = AdminClient({"bootstrap.servers": bootstrap_servers, "logger": LOGGER})
    try:
        return str(client.list_topics(timeout=CONTACT_SECONDS).cluster_id)
    except KafkaException as error:
        raise _unreachable(bootstrap_servers, error) from None


def topic_ends(bootstrap_servers: str, topics: Iterable[str]) -> dict[str, dict[int, int]]:
    """Return the offset of the next record, by topic and partition; raises KafkaUnavailable."""
    return {topic: ends for topic, (_, ends) in _bounds(bootstrap_servers, topics).items()}


def topic_beginnings(
    bootstrap_servers: str, topics: Iterable[str], client: Client = NO_PROPERTIES
) -> dict[str, dict[int, int]]:
    """Return the offset of the oldest record, by topic and partition; raises KafkaUnavailable."""
    bounds = _bounds(bootstrap_servers, topics, client)
    return {topic: firsts for topic, (firsts, _) in bounds.items()}


def _bounds(
    bootstrap_servers: str, topics: Iterable[str], client: Client = NO_PROPERTIES
) -> dict[str, tuple[dict[int, int], dict[int, int]]]:
    consumer = _consumer(bootstrap_servers, client)
    try:
        known = consumer.list_topics(timeout=CONTACT_SECONDS).topics
        bounds = {}
        for topic in topics:
            if topic not in known:
                raise KafkaUnavailable(
                    f"the topic {topic!r} does not exist at {bootstrap_servers}. Create the topics:"
                    " tunemesh submit --prepare-only"
                )
            partitions = {p: _watermarks(consumer, topic, p) for p in known[topic].partitions}
            bounds[topic] = (
                {partition: first for partition, (first, _) in partitions.items()},
                {partition: end for partition, (_, end) in partitions.items()},
            )
        return bounds
    except KafkaException as error:
        raise _unreachable(bootstrap_servers, error) from None
    finally:
        consumer.close()


def _watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return the first and the next offset; retries while a new partition has no leader."""
    deadline = time.monotonic() + _CALL_SECONDS
    while True:
        try:
            watermarks: tuple[int, int] = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_CALL_SECONDS
            )
            return watermarks
        except KafkaException as error:
            transient = error.args[0].code() in _TRANSIENT or error.args[0].retriable()
            if not transient or time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


class TopicReader:
    """Reads a topic from given offsets to its present end, as often as ``read`` is called."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        start: Mapping[int, int],
        client: Client = NO_PROPERTIES,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._client = client
        self._topic = topic
        self._next = dict(start)
        self._consumer: Any = _consumer(bootstrap_servers, client)
        self._check_start()
        self._consumer.assign([TopicPartition(topic, p, o) for p, o in self._next.items()])

    def _check_start(self) -> None:
        bounds = _bounds(self._bootstrap_servers, [self._topic], self._client)
        firsts, ends = bounds[self._topic]
        for partition, offset in self._next.items():
            if not firsts.get(partition, 0) <= offset <= ends.get(partition, -1):
                raise KafkaUnavailable(
                    f"{self._topic}/{partition} has the offsets {firsts.get(partition)} to"
                    f" {ends.get(partition)}, the run began at {offset}: its records are no longer"
                    " on the topic"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self) -> Iterator[Message]:
        """Yield the records since the last call, up to the present end of the topic."""
        try:
            yield from self._read()
        except KafkaException as error:
            raise _unreachable(self._bootstrap_servers, error) from None

    def _read(self) -> Iterator[Message]:
        ends = {
            partition: _watermarks(self._consumer, self._topic, partition)[1]
            for partition in self._next
        }
        # Not every offset is a record (transactions, compaction): then the end alone is reported.
        empty = 0
        while (left := sum(max(0, end - self._next[p]) for p, end in ends.items())) > 0:
            messages = self._consumer.consume(min(left, _BATCH), timeout=0.5)
            empty = 0 if messages else empty + 1
            if empty > _MAX_EMPTY_READS:
                raise KafkaUnavailable(
                    f"{self._topic}: {left:,} records do not arrive from {self._bootstrap_servers}"
                )
            for message in messages:
                partition = message.partition()
                if (error := message.error()) is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        self._next[partition] = max(self._next[partition], message.offset())
                        continue
                    raise KafkaUnavailable(f"{self._topic}: {error}")
                self._next[partition] = message.offset() + 1
                yield message
