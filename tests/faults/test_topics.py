"""Topics as producers and operators change them: transactions, compaction, retention, recreation,
more partitions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from deploy.local import application
from tests.faults.full_stage import FullStage, pass_time, scenario
from tests.faults.results import check_clean, result_of, write_result
from tests.faults.sources import ChangingHour
from tests.faults.stage import HOUR_START_MS, Stage
from tests.faults.topics import TopicAdmin
from tests.faults.transactions import TransactionalProducer
from tests.support.waiting import wait_until
from verification.entries import Entry, FunctionSource, Source
from verification.generator import Hour
from verification.positions import topic_ends

SECONDS, RATE = 20, 200

NOTICED_SECONDS = 15
"""For Flink's sources to notice that a topic was deleted: they look every ten seconds."""

COMPACTION = {
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
}
"""Of a topic whose older versions are removed within half a minute."""


@pytest.mark.timeout(900)
def test_transactional_producers(full_stage: FullStage) -> None:
    """On all four topics; what is aborted is never seen, at no destination."""
    with scenario(
        full_stage,
        "transactions, every other one aborted",
        seed=801,
        seconds=SECONDS,
        producer=TransactionalProducer,
        datasets=True,
    ) as flow:
        flow.wait_sent()
        flow.lift()
    sources = [contract.topic for contract in full_stage.contracts.sources]
    admin = TopicAdmin(full_stage.settings.kafka.address)
    missing = {topic: admin.missing(topic) for topic in sources}
    assert min(missing.values()) > 0, f"no aborted records: {missing}"
    assert flow.restarts == 0


@pytest.fixture
def running(stage: Stage) -> Stage:
    """A platform of its own, whose topics a test may delete, with the default pipelines."""
    stage.stale_tolerance_ms = 5_000  # what the freshness guarantees
    stage.start()
    return stage


def publish(stage: Stage, seed: int) -> float:
    """Publish an hour while the application runs; returns the seconds until the first event.

    It is the catalogue and then events, without settling time at the start.
    """
    began = time.monotonic()
    with stage.replaying_source(in_order(seed), RATE) as replay:
        seconds = time.monotonic() - began
        replay.result(timeout=SECONDS * 4 + 120)
    return round(seconds, 1)


def in_order(seed: int) -> Source:
    """Return a changing hour in which the last version of a user or item is the newest.

    Compaction keeps the last one, also one that is malformed: hence there are no anomalies. A topic
    that was recreated has versions that were published later. The order of versions is that of
    publication: no record has an ``updated_at``.
    """
    hour = Hour(SECONDS * RATE, start_ms=HOUR_START_MS + seed, seed=seed)
    source = ChangingHour(hour)

    def ordered(entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.record is not None and "updated_at" in entry.record:
                yield replace(entry, record={**entry.record, "updated_at": None})
            else:
                yield entry

    return FunctionSource(
        f"{source.description}, in order",
        source.dimension_count,
        source.stream_count,
        lambda: ordered(source.dimensions()),
        lambda: ordered(source.stream()),
    )


def check(stage: Stage, name: str, **more: float) -> None:
    """Reconcile the newest run and write the result."""
    report = stage.verify()
    restarts = len(stage.failures())
    write_result(name, result_of(report, restarts=restarts, **more))
    check_clean(report)


@pytest.mark.timeout(900)
def test_compacted_and_expired_topics(running: Stage) -> None:
    """An application without state starts on topics with gaps, of which one has no record left."""
    stage, contracts = running, running.contracts
    admin = TopicAdmin(stage.settings.kafka.address)
    dimensions = [c.topic for c in contracts.sources if c.retention == "compact"]
    admin.configure(dimensions, application.PARTITIONS, COMPACTION)
    publish(stage, 811)
    check(stage, "compacted topics")
    stage.rest.cancel(stage.job, 60)
    for topic in dimensions:
        wait_until(lambda topic=topic: admin.missing(topic), f"{topic} is compacted", 120)  # type: ignore[misc]
    expiring = ["podcasts", "interactions"]
    admin.configure(expiring, application.PARTITIONS, {"cleanup.policy": "compact,delete"})
    admin.cut(expiring)
    stage.submit()
    first_s = publish(stage, 812)
    check(stage, "compacted and expired topics, without state", first_event_s=first_s)


@pytest.mark.timeout(900)
def test_recreated_topics(running: Stage) -> None:
    """Users, items and interactions are deleted and created again while the application runs."""
    stage, contracts = running, running.contracts
    publish(stage, 821)
    check(stage, "before topics are recreated")
    admin = TopicAdmin(stage.settings.kafka.address)
    # Deletions have positions of the former topics.
    admin.cut([contracts["deletions"].topic])
    admin.recreate(application.topic_spec(contract) for contract in contracts.sources)
    pass_time(NOTICED_SECONDS)
    first_s = publish(stage, 822)
    check(stage, "recreated topics", first_event_s=first_s)


@pytest.mark.timeout(900)
def test_partitions_added_while_events_flow(running: Stage) -> None:
    """Producers that know them publish to them at once; events wait for their users and items."""
    stage = running
    topics = [contract.topic for contract in stage.contracts.sources]
    admin = TopicAdmin(stage.settings.kafka.address)
    with stage.replaying_source(in_order(831), RATE) as replay:
        admin.add_partitions(topics, 2 * application.PARTITIONS)
        replay.result(timeout=SECONDS * 4 + 120)
    first_s = publish(stage, 832)
    added = topic_ends(stage.settings.kafka.address, topics)
    assert all(min(ends.values()) > 0 for ends in added.values()), f"not all are used: {added}"
    check(stage, "partitions added while events flow", first_event_s=first_s)
