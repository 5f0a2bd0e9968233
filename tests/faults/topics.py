"""Changes of topics while applications read them: configuration, partitions, deletion."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from confluent_kafka.cimpl import OFFSET_END

from deploy.local.kafka import TopicSpec, create_topics
from schemas.errors import TunemeshError
from tests.support.waiting import wait_until
from verification.positions import TopicReader, topic_beginnings, topic_ends

SECONDS = 60


class TopicAdmin:
    """Changes the topics of a broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers})

    def configure(self, topics: Iterable[str], partitions: int, config: Mapping[str, str]) -> None:
        """Change the configuration of existing topics with this number of partitions."""
        create_topics(self._servers, [TopicSpec(topic, partitions, config) for topic in topics])

    def cut(self, topics: Iterable[str]) -> None:
        """Delete all present records, as retention does; their offsets are not used again."""
        ends = topic_ends(self._servers, topics)
        partitions = [TopicPartition(t, p, OFFSET_END) for t, found in ends.items() for p in found]
        for future in self._admin.delete_records(partitions).values():
            future.result(SECONDS)
        assert topic_beginnings(self._servers, topics) == ends

    def recreate(self, specs: Iterable[TopicSpec]) -> None:
        """Delete topics and create them without records, from offset 0."""
        specs = list(specs)
        for future in self._admin.delete_topics([spec.name for spec in specs]).values():
            future.result(SECONDS)

        def is_created() -> bool:
            # The broker deletes asynchronously.
            with contextlib.suppress(TunemeshError, KeyError):
                create_topics(self._servers, specs)
                ends = topic_ends(self._servers, [spec.name for spec in specs])
                return not any(end for found in ends.values() for end in found.values())
            return False

        wait_until(is_created, "the topics are created again", SECONDS)

    def add_partitions(self, topics: Iterable[str], count: int) -> None:
        """Increase the number of partitions to ``count``."""
        futures = self._admin.create_partitions([NewPartitions(topic, count) for topic in topics])
        for future in futures.values():
            future.result(SECONDS)

    def missing(self, topic: str) -> int:
        """Return the number of offsets between beginning and end that are no records."""
        beginnings = topic_beginnings(self._servers, [topic])[topic]
        ends = topic_ends(self._servers, [topic])[topic]
        with TopicReader(self._servers, topic, beginnings) as reader:
            records = sum(1 for _ in reader.read())
        return sum(ends.values()) - sum(beginnings.values()) - records
