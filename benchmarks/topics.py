"""The broker as the benchmark uses it: topics made, dimensions awaited, outputs read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
)
from confluent_kafka import TopicPartition as Position
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.errors import BenchmarkError

PARTITIONS = 2
_REQUEST_SECONDS = 20


class Topics:
    """Topics of one broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        # Quiet: that a broker is stopped at the end is no news; what matters is raised.
        quiet = {"bootstrap.servers": bootstrap, "log_level": 0}
        self._admin = AdminClient(quiet)
        self._watch = Consumer({**quiet, "group.id": "bench-watch"})

    def names(self) -> frozenset[str]:
        """Topics that exist; raises BenchmarkError when no broker answers."""
        try:
            return frozenset(self._admin.list_topics(timeout=_REQUEST_SECONDS).topics)
        except KafkaException as error:
            raise BenchmarkError(f"no Kafka broker answers at {self.bootstrap}: {error}") from error

    def remake(self, name: str, *, append_time: bool = False) -> None:
        """An empty topic of that name."""
        if name in self.names():
            self.delete(name)
        kind = "LogAppendTime" if append_time else "CreateTime"
        topic = NewTopic(name, PARTITIONS, 1, config={"message.timestamp.type": kind})
        deadline = time.monotonic() + _REQUEST_SECONDS
        while True:
            try:
                self._admin.create_topics([topic])[name].result(_REQUEST_SECONDS)
                return
            except KafkaException as error:
                # A deleted topic is still there for a moment.
                if time.monotonic() > deadline:
                    raise BenchmarkError(f"topic {name} cannot be made: {error}") from error
                time.sleep(0.2)

    def delete(self, name: str) -> None:
        """Delete a topic; it is no error when there is none."""
        if name in self.names():
            self._admin.delete_topics([name])[name].result(_REQUEST_SECONDS)

    def delete_group(self, group: str) -> None:
        """Forget a consumer group's offsets; it is no error when there is none."""
        try:
            self._admin.delete_consumer_groups([group])[group].result(_REQUEST_SECONDS)
        except KafkaException as error:
            code = error.args[0].code()
            if code not in (KafkaError.GROUP_ID_NOT_FOUND, KafkaError.NON_EMPTY_GROUP):
                raise

    def ends(self, names: Sequence[str]) -> dict[tuple[str, int], int]:
        """End offsets by topic and partition."""
        return {
            (name, partition): self._watch.get_watermark_offsets(
                Position(name, partition), timeout=_REQUEST_SECONDS, cached=False
            )[1]
            for name in names
            for partition in range(PARTITIONS)
        }

    def count(self, *names: str) -> int:
        """How many records were ever written to the topics."""
        return sum(self.ends(names).values())

    def committed(self, group: str, names: Sequence[str]) -> dict[tuple[str, int], int]:
        """A consumer group's offsets; partitions without one are left out."""
        positions = [Position(name, p) for name in names for p in range(PARTITIONS)]
        asked = [ConsumerGroupTopicPartitions(group, positions)]
        try:
            answer = self._admin.list_consumer_group_offsets(asked)[group].result(_REQUEST_SECONDS)
        except KafkaException:
            # A group that has not committed yet is no group.
            return {}
        return {(p.topic, p.partition): p.offset for p in answer.topic_partitions if p.offset >= 0}

    def has_read(self, group: str, names: Sequence[str]) -> bool:
        """Whether a group has committed the end of every partition of the topics."""
        committed = self.committed(group, names)
        ends = self.ends(names)
        return all(committed.get(position, -1) >= end for position, end in ends.items() if end)

    def read(self, *names: str) -> Iterator[Message]:
        """All records that the topics hold now, in the order of each partition."""
        left = {position: end for position, end in self.ends(names).items() if end}
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "bench-read",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 4 * 1024 * 1024,
            }
        )
        consumer.assign([Position(name, partition, 0) for name, partition in left])
        silent_since = time.monotonic()
        try:
            while left:
                for message in consumer.consume(10_000, 1.0):
                    if message.error() is not None:
                        raise BenchmarkError(f"reading {names}: {message.error()}")
                    silent_since = time.monotonic()
                    position = (message.topic(), message.partition())
                    if message.offset() >= left.get(position, 0):
                        continue
                    if message.offset() == left[position] - 1:
                        del left[position]
                    yield message
                if time.monotonic() - silent_since > _REQUEST_SECONDS:
                    raise BenchmarkError(f"the broker stopped sending {sorted(left)}")
        finally:
            consumer.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._watch.close()


def wait_until(
    condition: Callable[[], bool],
    what: str,
    limit_seconds: float,
    *,
    check: Callable[[], None] = lambda: None,
    pause_seconds: float = 0.2,
) -> None:
    """Return when the condition holds; raises BenchmarkError after the limit.

    ``check`` is called in between and may raise, for instance when a process has ended.
    """
    deadline = time.monotonic() + limit_seconds
    while not condition():
        check()
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what}: not within {limit_seconds:.0f} s")
        time.sleep(pause_seconds)
