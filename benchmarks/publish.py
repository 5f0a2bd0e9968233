"""Publishes a dataset in the product's wire format: registry header, Avro body, contract's key."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from confluent_kafka import Producer

from benchmarks.dataset import Shape, dimensions, interactions
from benchmarks.topics import Topics
from connectors.files import write_report
from schemas.codec import Encoder
from schemas.model import Contracts
from verification.positions import create_producer, produce

DIMENSION_TOPICS = ("users", "songs", "podcasts")
SOURCE_TOPICS = (*DIMENSION_TOPICS, "interactions")

VersionIds = Mapping[str, UUID]
"""The id of the newest schema version by contract name."""


def generate_version_ids(contracts: Contracts) -> dict[str, UUID]:
    """Return ids without a registry, for systems that do not look them up (all but ours)."""
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
    """Recreate and fill the source topics; returns when the broker has stored all records."""
    encoders = {name: Encoder(contracts[name], version_ids[name]) for name in SOURCE_TOPICS}
    for name in SOURCE_TOPICS:
        topics.recreate(name)
    producer = open_producer(topics.bootstrap)
    count = 0
    for count, record in enumerate(chain(dimensions(shape), interactions(shape)), start=1):
        value = encoders[record.topic].encode(record.record)
        produce(producer, record.topic, value=value, key=record.key)
        if count % 10_000 == 0:
            producer.poll(0)
            progress(count)
    producer.flush()
    progress(count)


def open_producer(bootstrap: str) -> Producer:
    """Return a producer for many records."""
    return create_producer(
        bootstrap,
        {
            "linger.ms": 50,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 500_000,
            "compression.type": "lz4",
        },
    )


def find_dataset(file: Path, topics: Topics, shape: Shape, version_ids: VersionIds) -> Shape | None:
    """Return the shape of the dataset that an earlier run left in the topics, if it matches.

    It matches if the shape is the same except for the base time; ``file`` was written by
    :func:`record_dataset`.
    """
    if not file.exists():
        return None
    recorded = json.loads(file.read_text())
    published = Shape(**recorded["shape"])
    same_ids = recorded["version_ids"] == {name: str(id) for name, id in version_ids.items()}
    expected = Shape(shape.events, shape.users, shape.songs, shape.podcasts, published.base_ms)
    if published != expected or not same_ids or not topics.names() >= frozenset(SOURCE_TOPICS):
        return None
    counts = {name: topics.count(name) for name in SOURCE_TOPICS}
    return published if counts == recorded["counts"] else None


def record_dataset(file: Path, topics: Topics, shape: Shape, version_ids: VersionIds) -> None:
    """Write a description of the dataset in the topics, for :func:`find_dataset`."""
    write_report(
        file,
        {
            "shape": shape.as_json(),
            "version_ids": {name: str(id) for name, id in version_ids.items()},
            "counts": {name: topics.count(name) for name in SOURCE_TOPICS},
        },
    )
