"""Topics whose time is that of producers stop the start, with what to do."""

from __future__ import annotations

from typing import cast

import pytest

from connectors.kafka.librdkafka import KafkaOffsets
from connectors.kafka.offsets import OffsetsUnavailable
from jobs.submission.timestamps import ProducersTime, check_timestamps


class Topics:
    """The configuration of topics; None: the role may not describe it."""

    def __init__(self, types: dict[str, str] | None) -> None:
        self._types = types

    def timestamp_types(self, topics: list[str]) -> dict[str, str]:
        if self._types is None:
            raise OffsetsUnavailable("Kafka does not answer: Topic authorization failed.")
        return {topic: self._types[topic] for topic in topics}


def check(types: dict[str, str] | None, *topics: str) -> None:
    check_timestamps(cast("KafkaOffsets", Topics(types)), topics, "b-1:9092")


def test_the_time_of_the_broker_is_accepted() -> None:
    """Of the topics that the application reads; others may be as they like."""
    check({"users": "LogAppendTime", "songs": "LogAppendTime", "x": "CreateTime"}, "users", "songs")


def test_each_topic_with_the_time_of_producers_is_named_with_its_command() -> None:
    """All at once, and only those."""
    with pytest.raises(ProducersTime) as raised:
        check({"a": "CreateTime", "b": "LogAppendTime", "c": "CreateTime"}, "a", "b", "c")
    assert "is not LogAppendTime for a, c:" in str(raised.value)
    assert str(raised.value).count("kafka-configs.sh --bootstrap-server b-1:9092") == 2
    assert "--entity-name b" not in str(raised.value)


def test_a_role_that_may_not_describe_topics_is_named() -> None:
    """With the setting that leaves the check out."""
    with pytest.raises(ProducersTime, match=r"authorization failed.*'check.timestamps'"):
        check(None, "users")
