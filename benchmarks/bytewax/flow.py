"""The enrichment as a Bytewax flow: in its own virtual environment, two processes, recovery on.

Optimised: source and sink partitions without a dataclass per record, decoding in the source, state
as tuples. Omitted, which favours it: the sink is not flushed before a snapshot (so it is not even
at-least-once), registry look-ups, older schema versions, dead letters.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import io
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import bytewax.operators as op
import fastavro
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

HEADER_SIZE = 18
BATCH = 1000
# Topic, partition, offset, timestamp, key and record.
Read = tuple[str, int, int, int, bytes, dict[str, Any]]

BOOTSTRAP = os.environ["BENCH_BOOTSTRAP"]
SCHEMAS = Path(os.environ["BENCH_SCHEMAS"])
HEADER = bytes.fromhex(os.environ["BENCH_HEADER"])
OUT = os.environ["BENCH_OUT"]
GATE = Path(os.environ["BENCH_GATE"])
WARM = Path(os.environ["BENCH_WARM"])

_count = 0


def schema(name: str) -> Any:
    """Return a contract's newest schema with timestamps as plain numbers."""

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: plain(v) for k, v in node.items() if k != "logicalType"}
        return [plain(branch) for branch in node] if isinstance(node, list) else node

    return fastavro.parse_schema(plain(json.loads((SCHEMAS / f"{name}.avsc").read_text())))


class Partition(StatefulSourcePartition):  # type: ignore[misc]  # not in this environment
    """A partition of a topic, decoded; interactions wait for the gate."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": BOOTSTRAP,
                "group.id": "bench-bytewax",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 4 * 1024 * 1024,
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, offset)])
        self._topic, self._partition, self._offset = topic, partition, offset
        self._schema = schema(topic)
        self._open = topic != "interactions"

    def next_batch(self) -> list[Read]:
        if not self._open:
            self._open = GATE.exists()
            if not self._open:
                time.sleep(0.001)
                return []
        read, parsed, empty = fastavro.schemaless_reader, self._schema, io.BytesIO
        batch = []
        for message in self._consumer.consume(BATCH, 0.001):
            if message.error() is not None:
                raise RuntimeError(str(message.error()))
            body = empty(message.value()[HEADER_SIZE:])
            self._offset = message.offset() + 1
            batch.append(
                (
                    self._topic,
                    self._partition,
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    read(body, parsed, None),
                )
            )
        return batch

    def snapshot(self) -> int:
        return self._offset

    def close(self) -> None:
        self._consumer.close()


class Source(FixedPartitionedSource):  # type: ignore[misc]
    """All partitions of some topics."""

    def __init__(self, *topics: str) -> None:
        self._topics = topics

    def list_parts(self) -> list[str]:
        admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
        return [
            f"{partition}-{topic}"
            for topic in self._topics
            for partition in admin.list_topics(topic).topics[topic].partitions
        ]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Partition:
        partition, _, topic = for_part.partition("-")
        return Partition(topic, int(partition), resume_state or 0)


def origin(read: Read) -> str:
    """Return topic/partition/offset."""
    return f"{read[0]}/{read[1]}/{read[2]}"


def user(read: Read) -> tuple[str, tuple[int, Any]]:
    """Return a user's id, version and attached fields."""
    record = read[5]
    version = read[3] if record["updated_at"] is None else record["updated_at"]
    names = ("country", "age_band", "subscription", "created_at")
    attached = {name: record[name] for name in names} | {"origin": origin(read)}
    return record["user_id"], (version, None if record["deleted"] else attached)


def item(read: Read) -> tuple[str, tuple[int, Any]]:
    """Return an item's id, version and attached fields."""
    record = read[5]
    version = read[3] if record["updated_at"] is None else record["updated_at"]
    if read[0] == "songs":
        seconds = record["duration_seconds"]
        item_id = record["song_id"]
        attached = {
            "item_type": "song",
            "title": record["title"],
            "creator": record["artist"],
            "genres": record["genres"],
            "duration_ms": None if seconds is None else seconds * 1000,
            "language": None,
            "created_at": record["released_at"],
        }
    else:
        item_id = record["podcast_id"]
        attached = {
            "item_type": "podcast",
            "title": record["title"],
            "creator": record["publisher"] if record["host"] is None else record["host"],
            "genres": record["categories"],
            "duration_ms": None,
            "language": record["language"],
            "created_at": None,
        }
    attached["origin"] = origin(read)
    return item_id, (version, None if record["deleted"] else attached)


def event(read: Read) -> tuple[str, tuple[bytes, dict[str, Any]]]:
    """Return an interaction by its item, with its Kafka key."""
    record = read[5]
    record["origin"] = origin(read)
    record["published_at"] = read[3]
    return record["item_id"], (read[4], record)


class Join(StatefulBatchLogic):  # type: ignore[misc]
    """Keeps the newest version of a user or item and attaches it to the events of its key."""

    def __init__(self, name: str, newest: tuple[int, Any] | None) -> None:
        self._name = name
        self._count = newest

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        global _count  # noqa: PLW0603 - bytewax makes a logic a key; the total is the process's
        out = []
        name = self._name
        for value in values:
            first, second = value
            if type(first) is int:
                if self._count is None or first >= self._count[0]:
                    self._count = value
                _count += 1
            else:
                second[name] = None if self._count is None else self._count[1]
                out.append(value)
        # The state of a key without a dimension record would otherwise be kept indefinitely.
        return out, self._count is None

    def snapshot(self) -> Any:
        return self._count


class Writer(StatelessSinkPartition):  # type: ignore[misc]
    """Encodes and writes to Kafka."""

    def __init__(self) -> None:
        self._schema = schema("interactions-enriched")
        self._producer = Producer(
            {
                "bootstrap.servers": BOOTSTRAP,
                "linger.ms": int(os.environ["BENCH_LINGER_MS"]),
                "compression.type": os.environ["BENCH_COMPRESSION"],
                "queue.buffering.max.messages": 200_000,
            }
        )

    def write_batch(self, items: list[Any]) -> None:
        produce, write, parsed = self._producer.produce, fastavro.schemaless_writer, self._schema
        for _, (key, record) in items:
            stream = io.BytesIO()
            stream.write(HEADER)
            write(stream, parsed, record)
            while True:
                try:
                    produce(OUT, stream.getvalue(), key)
                    break
                except BufferError:
                    self._producer.poll(0.05)
        self._producer.poll(0)

    def close(self) -> None:
        self._producer.flush()


class Sink(DynamicSink):  # type: ignore[misc]
    """A sink with a writer for each worker."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Writer:
        return Writer()


def _by_user(keyed: tuple[str, Any]) -> tuple[str, Any]:
    """Return an event by its user; an anonymous one by its session, which is no user's id."""
    key, record = keyed[1]
    return record["user_id"] or key.decode(), (key, record)


def _report_count() -> None:
    while True:
        part = WARM / f"{os.getpid()}.part"
        part.write_text(str(_count))
        part.rename(WARM / f"{os.getpid()}.held")
        time.sleep(0.2)


def build() -> Dataflow:
    """Build the flow: four source topics, two joins, one output topic."""
    threading.Thread(target=_report_count, daemon=True).start()
    flow = Dataflow("bench")
    events = op.map("event", op.input("interactions", flow, Source("interactions")), event)
    items = op.map("item", op.input("items", flow, Source("songs", "podcasts")), item)
    users = op.map("user", op.input("users", flow, Source("users")), user)
    items_and_events = op.merge("items-and-events", events, items)
    with_item = op.stateful_batch(
        "with-item", items_and_events, lambda newest: Join("item", newest)
    )
    by_user = op.map("by-user", with_item, _by_user)
    users_and_events = op.merge("users-and-events", by_user, users)
    enriched = op.stateful_batch("with-user", users_and_events, lambda newest: Join("user", newest))
    op.output("write", enriched, Sink())
    return flow
