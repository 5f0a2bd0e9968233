"""Who sets the time of a record: the broker has to, as its time is the time of publication.

The order of versions, the deletions and the freshness of an event compare it. A producer's time
(CreateTime, Kafka's default) that is ahead would win over every later version of its user or item,
and one that is behind would let an event pass before its user and item are read.
"""

from __future__ import annotations

from collections.abc import Iterable

from connectors.kafka.librdkafka import KafkaOffsets
from connectors.kafka.offsets import OffsetsUnavailable
from schemas.errors import TunemeshError

BROKER_TIME = "LogAppendTime"

SETTING = "'check.timestamps' of the group 'tunemesh.enrichment'"


class ProducersTime(TunemeshError):
    """A topic takes the time of its records from their producers, or does not show whether."""


def check_timestamps(kafka: KafkaOffsets, topics: Iterable[str], bootstrap_servers: str) -> None:
    """Raise ProducersTime unless the broker sets the time of the topics' records."""
    try:
        types = kafka.timestamp_types(topics)
    except OffsetsUnavailable as error:
        raise ProducersTime(
            f"the configuration of the topics cannot be read: {error}. The application needs the"
            f" permission to describe it, or false as {SETTING}"
        ) from error
    wrong = [topic for topic, kind in types.items() if kind != BROKER_TIME]
    if wrong:
        raise ProducersTime(describe(wrong, bootstrap_servers))


def describe(topics: Iterable[str], bootstrap_servers: str) -> str:
    """Return what is wrong with topics of CreateTime, with the command that corrects each."""
    commands = " && ".join(
        f"kafka-configs.sh --bootstrap-server {bootstrap_servers} --alter --entity-type topics"
        f" --entity-name {topic} --add-config message.timestamp.type={BROKER_TIME}"
        for topic in topics
    )
    return (
        f"message.timestamp.type is not {BROKER_TIME} for {', '.join(topics)}: the time of a record"
        f" would be that of its producer's clock. Run: {commands}"
    )
