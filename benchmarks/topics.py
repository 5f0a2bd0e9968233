"""The topics of a broker: creating and deleting them, their offsets, and reading them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.errors import BenchmarkError
from connectors.kafka.librdkafka import LOGGER, KafkaOffsets
from verification.positions import TopicReader, topic_beginnings

PARTITIONS = 2
_REQUEST_SECONDS = 20


class Topics:
    """The topics of a broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "logger": LOGGER})
        self._offsets = KafkaOffsets(bootstrap, {"logger": LOGGER})

    def names(self) -> frozenset[str]:
        """Return the existing topics; raises BenchmarkError if the broker does not respond."""
        try:
            return frozenset(self._admin.list_topics(timeout=_REQUEST_SECONDS).topics)
        except KafkaException as error:
            raise BenchmarkError(
                f"Kafka does not respond at {self.bootstrap}: {error.args[0].str()}"
            ) from error

    def recreate(self, name: str) -> None:
        """Create an empty topic with the broker's time, after deleting one of this name."""
        self.delete(name)
        topic = NewTopic(name, PARTITIONS, 1, config={"message.timestamp.type": "LogAppendTime"})
        deadline = time.monotonic() + _REQUEST_SECONDS
        while True:
            try:
                self._admin.create_topics([topic])[name].result(_REQUEST_SECONDS)
                return
            except KafkaException as error:
                # The broker deletes topics asynchronously.
                if time.monotonic() > deadline:
                    raise BenchmarkError(f"cannot create the topic {name}: {error}") from error
                time.sleep(0.2)

    def delete(self, name: str) -> None:
        """Delete a topic, if it exists."""
        if name in self.names():
            self._admin.delete_topics([name])[name].result(_REQUEST_SECONDS)

    def delete_group(self, group: str) -> None:
        """Delete the offsets of a consumer group, if it exists."""
        try:
            self._admin.delete_consumer_groups([group])[group].result(_REQUEST_SECONDS)
        except KafkaException as error:
            code = error.args[0].code()
            if code not in (KafkaError.GROUP_ID_NOT_FOUND, KafkaError.NON_EMPTY_GROUP):
                raise

    def count(self, *names: str) -> int:
        """Return the number of records that were written to the topics."""
        return sum(self._offsets.ends(self._offsets.partitions(names)).values())

    def has_read(self, group: str, names: Sequence[str]) -> bool:
        """Whether a group has committed the end of every partition of the topics."""
        partitions = self._offsets.partitions(names)
        committed = self._offsets.committed(group, partitions)
        ends = self._offsets.ends(partitions)
        return all(committed[partition] >= end for partition, end in ends.items())

    def read(self, *names: str) -> Iterator[Message]:
        """Yield the present records of the topics, in the order of each partition."""
        for name, beginnings in topic_beginnings(self.bootstrap, names).items():
            with TopicReader(self.bootstrap, name, beginnings) as reader:
                yield from reader.read()


def wait_until(
    condition: Callable[[], bool],
    problem: str,
    timeout_seconds: float,
    *,
    check: Callable[[], None] = lambda: None,
    poll_seconds: float = 0.2,
) -> None:
    """Return when the condition holds; raises BenchmarkError with the problem after the timeout.

    ``check`` is called before each further attempt and may raise, for instance when a process has
    ended.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        check()
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{problem} within {timeout_seconds:.0f} s")
        time.sleep(poll_seconds)
