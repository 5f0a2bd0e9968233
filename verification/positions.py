"""Where topics end, and reading them from a position up to their end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.errors import TunemeshError

_SECONDS = 10.0
_FIRST_CONTACT_SECONDS = 5.0
_BATCH = 5_000
_PASSING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


class KafkaUnavailable(TunemeshError):
    """Kafka or a topic is not there; the message says what to do."""


def _unreachable(bootstrap_servers: str, error: KafkaException) -> KafkaUnavailable:
    return KafkaUnavailable(
        f"Kafka does not answer at {bootstrap_servers} ({error.args[0]}); run `tunemesh up`"
    )


def _consumer(bootstrap_servers: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "tunemesh-accounting",
            "client.id": "tunemesh-accounting",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "fetch.message.max.bytes": 4_194_304,
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 32_768,
        }
    )


def cluster_id(bootstrap_servers: str) -> str:
    """The id of the Kafka cluster; raises KafkaUnavailable."""
    client = AdminClient({"bootstrap.servers": bootstrap_servers})
    try:
        return str(client.list_topics(timeout=_FIRST_CONTACT_SECONDS).cluster_id)
    except KafkaException as error:
        raise _unreachable(bootstrap_servers, error) from None


def topic_ends(bootstrap_servers: str, topics: Iterable[str]) -> dict[str, dict[int, int]]:
    """For each topic and partition the offset that its next record will get.

    Raises KafkaUnavailable when the broker or a topic is not there.
    """
    return {topic: ends for topic, (_, ends) in _bounds(bootstrap_servers, topics).items()}


def topic_beginnings(bootstrap_servers: str, topics: Iterable[str]) -> dict[str, dict[int, int]]:
    """For each topic and partition the offset of the oldest record that is still there."""
    return {topic: firsts for topic, (firsts, _) in _bounds(bootstrap_servers, topics).items()}


def _bounds(
    bootstrap_servers: str, topics: Iterable[str]
) -> dict[str, tuple[dict[int, int], dict[int, int]]]:
    consumer = _consumer(bootstrap_servers)
    try:
        known = consumer.list_topics(timeout=_SECONDS).topics
        found = {}
        for topic in topics:
            if topic not in known:
                raise KafkaUnavailable(f"there is no topic {topic!r}; run `tunemesh up`")
            firsts: dict[int, int] = {}
            ends: dict[int, int] = {}
            for partition in known[topic].partitions:
                firsts[partition], ends[partition] = consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout=_SECONDS
                )
            found[topic] = (firsts, ends)
        return found
    except KafkaException as error:
        raise _unreachable(bootstrap_servers, error) from None
    finally:
        consumer.close()


def _watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """First and next offset; asks again while a new topic's partition has no leader yet."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            found: tuple[int, int] = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_SECONDS
            )
            return found
        except KafkaException as error:
            passing = error.args[0].code() in _PASSING or error.args[0].retriable()
            if not passing or time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


class TopicReader:
    """Reads one topic from given offsets, again and again up to where it ends at the moment."""

    def __init__(self, bootstrap_servers: str, topic: str, start: Mapping[int, int]) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._next = dict(start)
        self._consumer: Any = _consumer(bootstrap_servers)
        self._check_start()
        self._consumer.assign([TopicPartition(topic, p, o) for p, o in self._next.items()])

    def _check_start(self) -> None:
        firsts, ends = _bounds(self._bootstrap_servers, [self._topic])[self._topic]
        for partition, offset in self._next.items():
            if not firsts.get(partition, 0) <= offset <= ends.get(partition, -1):
                raise KafkaUnavailable(
                    f"{self._topic}/{partition} holds the offsets {firsts.get(partition)} up to"
                    f" {ends.get(partition)}, the run began at {offset}: the records of that run"
                    " are no longer there"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._consumer.close()

    def read(self) -> Iterator[Message]:
        """What has come since the last call, up to the ends that the topic has now."""
        try:
            yield from self._read()
        except KafkaException as error:
            raise _unreachable(self._bootstrap_servers, error) from None

    def _read(self) -> Iterator[Message]:
        ends = {
            partition: _watermarks(self._consumer, self._topic, partition)[1]
            for partition in self._next
        }
        # Control records take offsets and are never handed out; an empty answer twice in a row
        # while some are left means that only those are left.
        empty = 0
        while any(self._next[partition] < end for partition, end in ends.items()):
            left = sum(max(0, end - self._next[partition]) for partition, end in ends.items())
            messages = self._consumer.consume(min(left, _BATCH), timeout=0.5)
            empty = 0 if messages else empty + 1
            if empty > 10:
                raise KafkaUnavailable(
                    f"{self._topic}: no record comes from {self._bootstrap_servers} any more"
                )
            for message in messages:
                if (error := message.error()) is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        continue
                    raise KafkaUnavailable(f"{self._topic}: {error}")
                self._next[message.partition()] = message.offset() + 1
                yield message
