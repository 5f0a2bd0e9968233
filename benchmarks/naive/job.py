"""The enrichment in its simplest form: PyFlink's DataStream API from end to end.

It decodes in Python and joins by two KeyedCoProcessFunctions, which read and write their state from
Python. Omitted, which favours it: origins and the keys of the output (Python's Kafka source and
sink offer neither), registry look-ups, older schema versions, dead letters.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fastavro
from pyflink.common import Row, Types, WatermarkStrategy
from pyflink.common.serialization import ByteArraySchema
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.datastream.functions import KeyedCoProcessFunction, MapFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.java_gateway import get_gateway

HEADER_SIZE = 18
BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
_TEXT, _LONG, _TEXTS = Types.STRING(), Types.LONG(), Types.LIST(Types.STRING())

EVENT_TYPES = [_TEXT] * 6 + [_LONG, _TEXT, _LONG, _TEXT, _TEXTS]
USER_TYPES = [_TEXT] * 4 + [_LONG] * 2 + [Types.BOOLEAN()]
# item_id, item_type, title, creator, genres, duration_ms, language, created_at, updated_at, deleted
ITEM_TYPES = [*[_TEXT] * 4, _TEXTS, _LONG, _TEXT, _LONG, _LONG, Types.BOOLEAN()]
ATTACHED_ITEM = [*[_TEXT] * 3, _TEXTS, _LONG, _TEXT, _LONG]
ATTACHED_USER = [*[_TEXT] * 3, _LONG]
EVENT, USER, ITEM = Types.ROW(EVENT_TYPES), Types.ROW(USER_TYPES), Types.ROW(ITEM_TYPES)
WITH_ITEM = Types.ROW([*EVENT_TYPES, _LONG, Types.ROW(ATTACHED_ITEM)])
WITH_USER = Types.ROW([*EVENT_TYPES, _LONG, Types.ROW(ATTACHED_ITEM), Types.ROW(ATTACHED_USER)])

USER_FIELDS = ("country", "age_band", "subscription", "created_at")
ITEM_FIELDS = (
    *("item_type", "title", "creator", "genres"),
    *("duration_ms", "language", "created_at"),
)
USER_ID, SESSION_ID, ITEM_ID = 1, 2, 3


def without_logical_types(schema: Any) -> Any:
    """Return the schema with timestamps as plain numbers."""
    if isinstance(schema, dict):
        return {k: without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    return schema


class Decode(MapFunction):  # type: ignore[misc]  # pyflink has no types
    """Decodes a record's value to a Row of its fields."""

    def __init__(self, definition: dict[str, Any]) -> None:
        self.definition = definition

    def open(self, runtime_context: RuntimeContext) -> None:
        self.schema = fastavro.parse_schema(dict(self.definition))

    def map(self, value: bytes) -> Row:
        return self.row(
            fastavro.schemaless_reader(io.BytesIO(value[HEADER_SIZE:]), self.schema, None)
        )

    def row(self, record: Any) -> Row:
        return Row(*record.values())


class DecodeSong(Decode):
    """Decodes a song to an item."""

    def row(self, record: Any) -> Row:
        seconds = record["duration_seconds"]
        return Row(
            record["song_id"],
            "song",
            record["title"],
            record["artist"],
            record["genres"],
            None if seconds is None else seconds * 1000,
            None,
            record["released_at"],
            record["updated_at"],
            record["deleted"],
        )


class DecodePodcast(Decode):
    """Decodes a podcast to an item."""

    def row(self, record: Any) -> Row:
        return Row(
            record["podcast_id"],
            "podcast",
            record["title"],
            record["publisher"] if record["host"] is None else record["host"],
            record["categories"],
            None,
            record["language"],
            None,
            record["updated_at"],
            record["deleted"],
        )


class WithItem(KeyedCoProcessFunction):  # type: ignore[misc]
    """Attaches the newest version of the item."""

    def open(self, runtime_context: RuntimeContext) -> None:
        descriptor = ValueStateDescriptor("item", Types.PICKLED_BYTE_ARRAY())
        self.state = runtime_context.get_state(descriptor)

    def process_element1(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterable[Row]:
        newest = self.state.value()
        item = None if newest is None or newest[1] is None else Row(*newest[1])
        yield Row(*value, ctx.timestamp(), item)

    def process_element2(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterable[Row]:
        *fields, updated_at, deleted = value
        version = ctx.timestamp() if updated_at is None else updated_at
        newest = self.state.value()
        if newest is None or version >= newest[0]:
            self.state.update((version, None if deleted else tuple(fields[1:])))
        return ()


class WithUser(KeyedCoProcessFunction):  # type: ignore[misc]
    """Attaches the newest version of the user."""

    def open(self, runtime_context: RuntimeContext) -> None:
        descriptor = ValueStateDescriptor("user", Types.PICKLED_BYTE_ARRAY())
        self.state = runtime_context.get_state(descriptor)

    def process_element1(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterable[Row]:
        newest = None if value[USER_ID] is None else self.state.value()
        user = None if newest is None or newest[1] is None else Row(*newest[1])
        yield Row(*value, user)

    def process_element2(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterable[Row]:
        *fields, updated_at, deleted = value
        version = ctx.timestamp() if updated_at is None else updated_at
        newest = self.state.value()
        if newest is None or version >= newest[0]:
            self.state.update((version, None if deleted else tuple(fields[1:])))
        return ()


class Encode(MapFunction):  # type: ignore[misc]
    """Encodes the enriched record with its registry header."""

    def __init__(self, definition: dict[str, Any], header: bytes) -> None:
        self.definition = definition
        self.header = header

    def open(self, runtime_context: RuntimeContext) -> None:
        self.schema = fastavro.parse_schema(dict(self.definition))
        self.names = [field["name"] for field in self.definition["fields"]][:11]

    def map(self, value: Row) -> bytes:
        *event, published_at, item, user = value
        record = dict(zip(self.names, event, strict=True))
        record |= {"origin": "", "published_at": published_at, "user": None, "item": None}
        if user is not None:
            record["user"] = dict(zip(USER_FIELDS, user, strict=True)) | {"origin": ""}
        if item is not None:
            record["item"] = dict(zip(ITEM_FIELDS, item, strict=True)) | {"origin": ""}
        stream = io.BytesIO()
        stream.write(self.header)
        fastavro.schemaless_writer(stream, self.schema, record)
        return stream.getvalue()


def main() -> None:
    """Run the job until it is cancelled."""
    parser = argparse.ArgumentParser()
    for name in (
        *("bootstrap", "group", "gate", "schemas", "header", "out"),
        *("linger-ms", "batch-bytes", "compression", "jars"),
    ):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    environment = StreamExecutionEnvironment.get_execution_environment()
    environment.add_jars(*(Path(jar).as_uri() for jar in arguments.jars.split(os.pathsep)))

    def definition(name: str) -> dict[str, Any]:
        text = (Path(arguments.schemas) / f"{name}.avsc").read_text()
        loaded: dict[str, Any] = without_logical_types(json.loads(text))
        return loaded

    def read(topic: str, *, gated: bool = False) -> DataStream:
        builder = (
            KafkaSource.builder()
            .set_bootstrap_servers(arguments.bootstrap)
            .set_group_id(arguments.group)
            .set_topics(topic)
            .set_starting_offsets(KafkaOffsetsInitializer.earliest())
            .set_value_only_deserializer(ByteArraySchema())
        )
        if gated:
            jvm = get_gateway().jvm
            loader = jvm.Thread.currentThread().getContextClassLoader()
            gate = loader.loadClass("tunemesh.benchmarks.GatedOffsets")
            constructor = gate.getConstructors()[0]
            parameters = get_gateway().new_array(jvm.Object, 1)
            parameters[0] = arguments.gate
            builder._j_builder.setStartingOffsets(constructor.newInstance(parameters))
        return environment.from_source(
            builder.build(), WatermarkStrategy.no_watermarks(), topic, BYTES
        )

    events = read("interactions", gated=True).map(Decode(definition("interactions")), EVENT)
    songs = read("songs").map(DecodeSong(definition("songs")), ITEM)
    podcasts = read("podcasts").map(DecodePodcast(definition("podcasts")), ITEM)
    users = read("users").map(Decode(definition("users")), USER)
    with_item = (
        events.connect(songs.union(podcasts))
        .key_by(lambda event: event[ITEM_ID], lambda item: item[0], key_type=_TEXT)
        .process(WithItem(), WITH_ITEM)
    )
    enriched = (
        with_item.connect(users)
        .key_by(
            lambda event: event[SESSION_ID] if event[USER_ID] is None else event[USER_ID],
            lambda user: user[0],
            key_type=_TEXT,
        )
        .process(WithUser(), WITH_USER)
    )
    header = bytes.fromhex(arguments.header)
    sink = (
        KafkaSink.builder()
        .set_bootstrap_servers(arguments.bootstrap)
        .set_record_serializer(
            KafkaRecordSerializationSchema.builder()
            .set_topic(arguments.out)
            .set_value_serialization_schema(ByteArraySchema())
            .build()
        )
        .set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
        .set_property("linger.ms", arguments.linger_ms)
        .set_property("batch.size", arguments.batch_bytes)
        .set_property("compression.type", arguments.compression)
        .build()
    )
    enriched.map(Encode(definition("interactions-enriched"), header), BYTES).sink_to(sink)
    environment.execute("benchmark-naive")


if __name__ == "__main__":
    main()
