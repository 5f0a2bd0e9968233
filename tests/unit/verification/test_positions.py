"""Kafka clients without Kafka: an error that says so, and nothing on the terminal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.local import kafka
from deploy.local.kafka import TopicSpec, create_topics
from schemas.errors import TunemeshError
from tests.support.ports import free_port
from verification import positions


@pytest.mark.parametrize(
    "ask",
    [
        positions.cluster_id,
        lambda address: positions.topic_ends(address, ["songs"]),
        lambda address: create_topics(address, [TopicSpec("songs")]),
    ],
    ids=["cluster_id", "topic_ends", "create_topics"],
)
def test_kafka_that_is_not_there_is_an_error_with_its_address(
    ask: Callable[[str], object], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Within five seconds; librdkafka's own lines go to its logger."""
    for module in (positions, kafka):
        assert module.CONTACT_SECONDS <= 5
        monkeypatch.setattr(module, "CONTACT_SECONDS", 0.2)
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(TunemeshError, match=address):
        ask(address)
    assert capfd.readouterr() == ("", "")


def test_a_producer_without_kafka_writes_nothing_to_the_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Its errors are those of its records."""
    producer = positions.create_producer(f"127.0.0.1:{free_port()}", {"message.timeout.ms": 200})
    errors: list[object] = []
    producer.produce("songs", value=b"x", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert len(errors) == 1
    assert capfd.readouterr() == ("", "")
