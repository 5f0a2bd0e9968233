"""Publishes a dataset as the product's own bytes: registry header, Avro body, contract's key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from confluent_kafka import Producer

from benchmarks.dataset import Published, Shape, dimensions, interactions
from benchmarks.topics import Topics
from schemas.codec import Encoder
from schemas.model import Contracts

DIMENSION_TOPICS = ("users", "songs", "podcasts")
SOURCE_TOPICS = (*DIMENSION_TOPICS, "interactions")

VersionIds = Mapping[str, UUID]
"""Schema version id by contract name, of each contract's newest version."""


def made_up_version_ids(contracts: Contracts) -> dict[str, UUID]:
    """Ids without a registry, for systems that do not look them up (all but ours)."""
    return {
        c.name: uuid5(NAMESPACE_URL, f"tunemesh:benchmark:{c.name}:{c.newest.definition}")
        for c in contracts
    }


def publish(
    topics: Topics,
    contracts: Contracts,
    version_ids: VersionIds,
    shape: Shape,
    progress: Callable[[int], None],
) -> None:
    """Make the four source topics anew and fill them; returns when the broker has everything."""
    encoders = {name: Encoder(contracts[name], version_ids[name]) for name in SOURCE_TOPICS}
    for name in SOURCE_TOPICS:
        topics.remake(name)
    producer = Producer(
        {
            "bootstrap.servers": topics.bootstrap,
            "linger.ms": 50,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 500_000,
            "compression.type": "lz4",
            "enable.idempotence": True,
            # A broker that has just started has the producer wait, and says so: no news.
            "log_level": 3,
        }
    )
    sent = 0
    for published in _in_order(shape):
        value = encoders[published.topic].encode(published.record)
        while True:
            try:
                producer.produce(
                    published.topic, value, published.key, timestamp=published.timestamp
                )
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        if sent % 10_000 == 0:
            producer.poll(0)
            progress(sent)
    producer.flush()
    progress(sent)


def _in_order(shape: Shape) -> Iterable[Published]:
    yield from dimensions(shape)
    yield from interactions(shape)


def kept(note: Path, topics: Topics, shape: Shape, version_ids: VersionIds) -> Shape | None:
    """The shape of the dataset that an earlier run left in the topics, when it is the one wanted.

    Of the shape everything but the base time must be the same.
    """
    if not note.exists():
        return None
    found = json.loads(note.read_text())
    there = Shape(**found["shape"])
    same_ids = found["version_ids"] == {name: str(id) for name, id in version_ids.items()}
    wanted = Shape(shape.events, shape.users, shape.songs, shape.podcasts, there.base_ms)
    if there != wanted or not same_ids or not topics.names() >= frozenset(SOURCE_TOPICS):
        return None
    counts = {name: topics.count(name) for name in SOURCE_TOPICS}
    return there if counts == found["counts"] else None


def write_note(note: Path, topics: Topics, shape: Shape, version_ids: VersionIds) -> None:
    """Remember what is in the topics, for :func:`kept`."""
    text = {
        "shape": shape.as_json(),
        "version_ids": {name: str(id) for name, id in version_ids.items()},
        "counts": {name: topics.count(name) for name in SOURCE_TOPICS},
    }
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(text, indent=2))
