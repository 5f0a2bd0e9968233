"""Records to bytes and back; whatever arrives is a record or an InvalidRecord, never a crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import wire
from schemas.codec import (
    Decoder,
    Encoder,
    LostSchema,
    RegisteredSchema,
    SchemaLookup,
    UnknownSchemaId,
    parse_plain,
)
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, SchemaVersion, load_contracts

CONTRACTS = load_contracts()
FIRST, SECOND, ELSEWHERE, BROKEN = (UUID(int=n) for n in (1, 2, 3, 4))


class Registry(SchemaLookup):
    """The versions of one contract by id, and how often it was asked."""

    def __init__(self, versions: Mapping[UUID, RegisteredSchema]) -> None:
        self.versions = versions
        self.asked = 0

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        self.asked += 1
        try:
            return self.versions[UUID(bytes=version_id)]
        except KeyError:
            raise UnknownSchemaId from None


def registry_of(contract: Contract) -> Registry:
    return Registry(
        {
            UUID(int=version.number): RegisteredSchema(contract.subject, version.definition)
            for version in contract.versions
        }
        | {
            ELSEWHERE: RegisteredSchema("elsewhere", contract.newest.definition),
            BROKEN: RegisteredSchema(contract.subject, '{"type": "no such type"}'),
        }
    )


def with_second_version(contract: Contract, change: Any) -> Contract:
    avro = contract.newest.avro
    change(avro["fields"])
    return replace(contract, versions=(*contract.versions, SchemaVersion(2, json.dumps(avro))))


def refused(decoder: Decoder, value: bytes | None, *published_ms: int) -> Reason:
    with pytest.raises(InvalidRecord) as caught:
        decoder.decode(value, *published_ms)
    return caught.value.reason


SONGS = CONTRACTS["songs"]
ROCK = SONGS.examples("valid")["rock"]
EXAMPLES = [
    (contract, [Encoder(contract, FIRST).encode(record, compress=c) for c in (False, True)])
    for contract in CONTRACTS
    for record in contract.examples("valid").values()
]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("contract", list(CONTRACTS), ids=lambda contract: contract.name)
def test_every_valid_example_comes_back_as_it_was(contract: Contract, compress: bool) -> None:
    """Timestamps as milliseconds, bytes as bytes; absent fields as their default."""
    decoder, encoder = Decoder(contract, registry_of(contract)), Encoder(contract, FIRST)
    for record in contract.examples("valid").values():
        decoded = decoder.decode(encoder.encode(record, compress=compress))
        assert {name: decoded[name] for name in record} == record
        assert set(decoded) == set(contract.newest.field_names)


def test_the_body_that_travels_on_is_the_one_that_came() -> None:
    """Written with the newest version, uncompressed: the JVM composes from these bytes."""
    decoder = Decoder(SONGS, registry_of(SONGS))
    value = Encoder(SONGS, FIRST).encode(ROCK)
    compressed = Encoder(SONGS, FIRST).encode(ROCK, compress=True)
    assert decoder.decode_with_body(value)[1] == value[wire.HEADER_SIZE :]
    assert decoder.decode_with_body(compressed)[1] == value[wire.HEADER_SIZE :]


def written_as(
    contract: Contract, definition: dict[str, Any], record: Any
) -> tuple[Decoder, bytes]:
    """A decoder of the contract, and a value that another schema of its subject has written."""
    writer = replace(contract, versions=(SchemaVersion(1, json.dumps(definition)),))
    registry = Registry({FIRST: RegisteredSchema(contract.subject, json.dumps(definition))})
    return Decoder(contract, registry), Encoder(writer, FIRST).encode(record)


CHANGE = {**ROCK, "__op": "c"}


def connect_schema() -> dict[str, Any]:
    avro = SONGS.newest.avro
    fields = [*avro["fields"], {"name": "__op", "type": "string"}]
    return {**avro, "name": "Value", "namespace": "server1.public.songs", "fields": fields}


def test_a_record_of_kafka_connect_is_read_with_an_alias() -> None:
    """Connect names every record Value, in a namespace of its topic."""
    aliased = json.dumps({**SONGS.newest.avro, "aliases": ["server1.public.songs.Value"]})
    decoder, value = written_as(
        replace(SONGS, versions=(SchemaVersion(1, aliased),)), connect_schema(), CHANGE
    )
    assert {name: decoder.decode(value)[name] for name in ROCK} == ROCK


def test_a_record_of_another_name_is_refused_in_a_sentence() -> None:
    """With the names and the remedy, not with both schemas."""
    decoder, value = written_as(SONGS, connect_schema(), CHANGE)
    with pytest.raises(InvalidRecord) as caught:
        decoder.decode(value)
    assert caught.value.reason is Reason.WRONG_TYPE
    assert caught.value.message == (
        "the record was written as server1.public.songs.Value, the contract's record is"
        " tunemesh.songs.Song; give it the alias 'server1.public.songs.Value' in the newest"
        " .avsc file"
    )


@pytest.mark.parametrize(
    "avro",
    [["null", "tunemesh.songs.Song"], {"type": "array", "items": "null"}],
    ids=["recursive", "items without bytes"],
)
def test_a_registered_schema_that_cannot_be_read_safely_is_refused(avro: Any) -> None:
    """A few bytes would overflow the stack of the worker, or never end."""
    schema = SONGS.newest.avro
    schema["fields"].append({"name": "more", "type": avro})
    registry = Registry({FIRST: RegisteredSchema(SONGS.subject, json.dumps(schema))})
    value = wire.frame(FIRST, b"\x02" * 64)
    assert refused(Decoder(SONGS, registry), value) is Reason.WRONG_SCHEMA


@pytest.mark.parametrize("depth", [70, 400, 900, 3_000])
@pytest.mark.parametrize(
    "nesting",
    ['{"type": %s}', '{"type": "array", "items": %s}', '["null", {"type": "map", "values": %s}]'],
    ids=["types", "arrays", "unions"],
)
def test_a_registered_schema_that_is_nested_too_deeply_is_refused(nesting: str, depth: int) -> None:
    """Some of these exceed Python's recursion limit in one step, some in another."""
    before, _, after = nesting.partition("%s")
    deep = before * depth + '"string"' + after * depth
    schema = SONGS.newest.definition.replace('"string"', deep, 1)
    value = wire.frame(FIRST, b"\x02a")
    registry = Registry({FIRST: RegisteredSchema(SONGS.subject, schema)})
    assert refused(Decoder(SONGS, registry), value) is Reason.WRONG_SCHEMA


@given(data=st.data(), example_value=st.sampled_from(EXAMPLES), compress=st.booleans())
def test_any_truncation_is_an_invalid_record(
    data: st.DataObject, example_value: tuple[Contract, list[bytes]], compress: bool
) -> None:
    """Nothing shorter than a record passes for one."""
    contract, values = example_value
    value = values[compress]
    decoder = Decoder(contract, registry_of(contract))
    length = data.draw(st.integers(0, len(value) - 1))
    reason = refused(decoder, value[:length])
    if length == 0:
        assert reason is Reason.EMPTY_VALUE
    elif length < wire.HEADER_SIZE:
        assert reason is Reason.TRUNCATED_HEADER
    else:
        assert reason is (Reason.CORRUPT_COMPRESSION if compress else Reason.TRUNCATED_BODY)


@given(data=st.data(), example_value=st.sampled_from(EXAMPLES), compress=st.booleans())
def test_any_changed_byte_is_a_record_or_an_invalid_record(
    data: st.DataObject, example_value: tuple[Contract, list[bytes]], compress: bool
) -> None:
    """And a record that passes can be written again, so nothing further down chokes on it."""
    contract, values = example_value
    value = values[compress]
    decoder = Decoder(contract, registry_of(contract))
    position = data.draw(st.integers(0, len(value) - 1))
    changed = data.draw(st.integers(0, 255))
    try:
        decoded = decoder.decode(value[:position] + bytes([changed]) + value[position + 1 :])
    except InvalidRecord:
        return
    Encoder(contract, FIRST).encode(decoded)


@given(body=st.binary(max_size=60), contract=st.sampled_from(list(CONTRACTS)))
@example(body=b"\xff" * 9 + b"\x7f", contract=SONGS)
@example(body=b"\x80" * 30, contract=SONGS)
@example(body=b"\x01", contract=SONGS)
def test_any_body_is_a_record_or_an_invalid_record(body: bytes, contract: Contract) -> None:
    """Random bytes behind a good header: lengths below zero, lengths beyond memory, no UTF-8."""
    try:
        decoded = Decoder(contract, registry_of(contract)).decode(wire.frame(FIRST, body))
    except InvalidRecord:
        return
    Encoder(contract, FIRST).encode(decoded)


def test_each_fault_of_a_value_has_its_reason() -> None:
    """The reasons are in the dead letters."""
    decoder = Decoder(SONGS, registry_of(SONGS))
    value = Encoder(SONGS, FIRST).encode(ROCK)
    assert refused(decoder, None) is Reason.EMPTY_VALUE
    assert refused(decoder, b"\x7b" + value[1:]) is Reason.BAD_MAGIC_BYTE
    assert refused(decoder, wire.frame(UUID(int=9), b"")) is Reason.UNKNOWN_SCHEMA_ID
    assert refused(decoder, wire.frame(ELSEWHERE, value[18:])) is Reason.WRONG_SCHEMA
    assert refused(decoder, wire.frame(BROKEN, value[18:])) is Reason.WRONG_SCHEMA
    assert refused(decoder, value + b"\x00") is Reason.TRAILING_BYTES
    assert refused(decoder, value + bytes(SONGS.max_bytes)) is Reason.OVERSIZE
    bomb = wire.frame(FIRST, value[18:] + bytes(SONGS.max_bytes), compress=True)
    assert len(bomb) < 1_000
    assert refused(decoder, bomb) is Reason.OVERSIZE


def test_an_int_beyond_32_bits_is_the_wrong_type() -> None:
    """fastavro reads it without complaint; no INT column and no Java reader holds it."""
    avro = SONGS.newest.avro
    for entry in avro["fields"]:
        if entry["name"] == "duration_seconds":
            entry["type"] = ["null", "long"]
    forger = Encoder(replace(SONGS, versions=(SchemaVersion(1, json.dumps(avro)),)), FIRST)
    decoder = Decoder(SONGS, registry_of(SONGS))
    assert decoder.decode(forger.encode({**ROCK, "duration_seconds": 2**31 - 1}))
    assert refused(decoder, forger.encode({**ROCK, "duration_seconds": 2**31})) is (
        Reason.WRONG_TYPE
    )


def test_text_that_is_not_utf8_is_the_wrong_type() -> None:
    """Avro strings are UTF-8."""
    value = Encoder(SONGS, FIRST).encode({**ROCK, "title": "QQQQ"})
    forged = value.replace(b"QQQQ", b"\xff\xfeQQ")
    assert refused(Decoder(SONGS, registry_of(SONGS)), forged) is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    "change",
    [
        {"title": 7},
        {"title": None},
        {"title": "\ud800"},
        {"genres": "rock"},
        {"genres": ["rock", 7]},
        {"deleted": "no"},
        {"deleted": 1},
        {"duration_seconds": 2**31},
        {"duration_seconds": 1.5},
        {"duration_seconds": True},
        {"updated_at": 2**63},
        {"updated_at": "yesterday"},
        {"no_such_field": 1},
    ],
    ids=str,
)
def test_a_producer_cannot_write_what_does_not_fit(change: dict[str, Any]) -> None:
    """Several of these fastavro would write as something else: "no" as true, 1.5 as 1."""
    encoder = Encoder(SONGS, FIRST)
    with pytest.raises(InvalidRecord) as caught:
        encoder.encode({**ROCK, **change})
    assert caught.value.reason is Reason.WRONG_TYPE


def test_a_field_without_default_cannot_be_left_out() -> None:
    """One with a default can."""
    encoder = Encoder(SONGS, FIRST)
    assert encoder.encode({"song_id": "s", "title": "t", "genres": []})
    with pytest.raises(InvalidRecord, match="genres"):
        encoder.encode({"song_id": "s", "title": "t"})


# Versions.


def test_an_older_version_is_read_as_the_newest_and_re_encoded() -> None:
    """Its body must not travel on: the JVM would compose it as if the newest had written it."""
    both = with_second_version(
        SONGS, lambda fields: fields.insert(1, {"name": "bpm", "type": "int", "default": 120})
    )
    decoder = Decoder(both, registry_of(both))
    old = Encoder(both, FIRST, version=1).encode(ROCK)
    new = Encoder(both, SECOND).encode({**ROCK, "bpm": 90})
    record, body = decoder.decode_with_body(old)
    assert record == {**decoder.decode(old), "bpm": 120}
    assert record["title"] == ROCK["title"]
    assert body == Encoder(both, SECOND).encode({**ROCK, "bpm": 120})[wire.HEADER_SIZE :]
    assert decoder.decode_with_body(new)[1] == new[wire.HEADER_SIZE :]


def test_a_newer_writer_than_this_reader_is_read_too() -> None:
    """Producers are upgraded first: the field that is not known yet is left out."""
    both = with_second_version(
        SONGS, lambda fields: fields.append({"name": "bpm", "type": "int", "default": 1})
    )
    decoder = Decoder(SONGS, registry_of(both))
    record, body = decoder.decode_with_body(Encoder(both, SECOND).encode({**ROCK, "bpm": 90}))
    assert "bpm" not in record
    assert body == Encoder(SONGS, FIRST).encode(ROCK)[wire.HEADER_SIZE :]


def test_fields_in_another_order_count_as_another_version() -> None:
    """The same names and types, yet other bytes."""
    both = with_second_version(SONGS, lambda fields: fields.reverse())
    decoder = Decoder(both, registry_of(both))
    record, body = decoder.decode_with_body(Encoder(both, FIRST, version=1).encode(ROCK))
    assert record["song_id"] == ROCK["song_id"]
    assert body == Encoder(both, SECOND).encode(ROCK)[wire.HEADER_SIZE :]


def test_new_documentation_is_no_reason_to_re_encode() -> None:
    """The bytes are the same: an array in a block with its size, which Python does not write."""
    both = with_second_version(SONGS, lambda fields: fields[0].update(doc="said differently"))
    value = Encoder(both, FIRST, version=1).encode({**ROCK, "genres": ["folk"]})
    blocked = value.replace(b"\x02\x08folk", b"\x01\x0a\x08folk")
    assert len(blocked) == len(value) + 1
    decoder = Decoder(both, registry_of(both))
    assert decoder.decode_with_body(blocked)[1] == blocked[wire.HEADER_SIZE :]


def test_the_registry_is_asked_once_an_id() -> None:
    """Not once a record."""
    registry = registry_of(SONGS)
    decoder = Decoder(SONGS, registry)
    value = Encoder(SONGS, FIRST).encode(ROCK)
    for _ in range(3):
        decoder.decode(value)
    assert registry.asked == 1


def test_parsing_leaves_the_given_schema_alone() -> None:
    """Logical types stay in what is registered; only the decoder does without."""
    avro = SONGS.newest.avro
    parse_plain(avro)
    assert avro == SONGS.newest.avro


class Losing(Registry):
    """Has lost what it does not have of records published before 1,000."""

    def has_lost(self, contract: Contract, published_ms: float) -> bool:
        return published_ms < 1_000


def test_a_record_whose_version_the_registry_has_lost_is_read_by_the_contracts_own() -> None:
    """By the version that fits: what is deleted in the registry makes no dead letters."""
    songs = with_second_version(
        CONTRACTS["songs"],
        lambda fields: fields.append({"name": "bpm", "type": ["null", "int"], "default": None}),
    )
    record = next(iter(CONTRACTS["songs"].examples("valid").values()))
    decoder = Decoder(songs, Losing({}))
    for number, expected in ((1, {"bpm": None}), (2, {"bpm": 120})):
        value = Encoder(songs, UUID(int=90 + number), number).encode(
            record | (expected if number == 2 else {})
        )
        decoded = decoder.decode(value, 999)
        assert (decoded["song_id"], decoded["bpm"]) == (record["song_id"], expected["bpm"])
        assert refused(decoder, value, 1_000) is Reason.UNKNOWN_SCHEMA_ID
    for unlike in (value[:-1], value + b"\0", value[:18]):
        with pytest.raises(InvalidRecord, match="no version of songs fits") as caught:
            decoder.decode(unlike, 999)
        assert caught.value.reason is Reason.UNKNOWN_SCHEMA_ID


def test_a_record_that_fits_several_lost_versions_stops_the_pipeline() -> None:
    """None of them is guessed; the message has the property that says which it was."""
    songs = with_second_version(CONTRACTS["songs"], lambda fields: fields.insert(0, fields.pop(1)))
    record = next(iter(CONTRACTS["songs"].examples("valid").values()))
    value = Encoder(songs, FIRST, 1).encode(record)
    with pytest.raises(LostSchema, match=rf"songs.v1 and as songs.v2.*'versions'.*{FIRST}=songs"):
        Decoder(songs, Losing({})).decode(value, 0)
    known = Losing({FIRST: RegisteredSchema("songs", songs.versions[0].definition)})
    assert Decoder(songs, known).decode(value, 0)["song_id"] == record["song_id"]
