"""The generated reader returns what the decoder returns, or leaves the value to it."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from benchmarks.decoding import mutate
from schemas.codec import Decoder, Encoder, RegisteredSchema, SchemaLookup
from schemas.flat_reader import FieldReader, RecordDecoder
from schemas.invalid import InvalidRecord
from schemas.model import Contract, SchemaVersion, load_contracts

VERSION = UUID(int=1)
MAX_BYTES = 2**16

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1) | st.integers(-1_000, 2**41),
    "float": st.floats(allow_nan=False, width=32),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=200),
    "string": st.text(max_size=100),
}
ENUM = {"type": "enum", "symbols": ["a", "b", "c"]}
FIXED = {"type": "fixed", "size": 3}


def contract_of(*types: Any) -> Contract:
    """A contract whose record has a field of each type, "f0" and so on."""
    fields = [{"name": f"f{number}", "type": avro} for number, avro in enumerate(types)]
    definition = json.dumps({"type": "record", "name": "R", "fields": fields})
    return replace(
        load_contracts()["users"],
        versions=(SchemaVersion(1, definition),),
        max_bytes=MAX_BYTES,
    )


class Registry(SchemaLookup):
    """Every id is the contract's newest version."""

    def __init__(self, contract: Contract) -> None:
        self.schema = RegisteredSchema(contract.subject, contract.newest.definition)

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        return self.schema


def encoded(contract: Contract, *values: Any) -> bytes:
    record = {f"f{number}": value for number, value in enumerate(values)}
    return Encoder(contract, VERSION).encode(record)


def readers(contract: Contract, value: bytes) -> tuple[FieldReader, RecordDecoder]:
    """Readers of all fields that have seen a valid value."""
    decoder = Decoder(contract, Registry(contract))
    decoder.decode(value)
    fields = FieldReader(decoder, [field["name"] for field in decoder.schema["fields"]])
    fields.add_decoded(value)
    records = RecordDecoder(decoder)
    assert records.decode(value) == decoder.decode(value)
    return fields, records


def result(decoder: Decoder | RecordDecoder, value: bytes) -> object:
    """What a decoder returns or raises; text, so that numbers are told from booleans."""
    try:
        return repr(decoder.decode(value))
    except InvalidRecord as error:
        return str(error)


def named(avro: Any, name: str) -> Any:
    return {**avro, "name": name} if isinstance(avro, dict) and "name" not in avro else avro


@st.composite
def _types(draw: st.DrawFn, name: str, *, nested: bool = False) -> Any:
    leaf = st.sampled_from([*SCALARS, ENUM, FIXED])
    kind = draw(
        st.sampled_from(["leaf", "nullable", "union", "array", "map"][: 3 if nested else 5])
    )
    match kind:
        case "leaf":
            return named(draw(leaf.filter(lambda avro: avro != "null")), name)
        case "nullable":
            branch = named(draw(leaf.filter(lambda avro: avro != "null")), name)
            return draw(st.permutations(["null", branch]))
        case "union":
            return draw(st.lists(st.sampled_from([*SCALARS]), min_size=1, max_size=4, unique=True))
        case "array":
            return {"type": "array", "items": draw(_types(name, nested=True))}
    return {"type": "map", "values": draw(_types(name, nested=True))}


def _value(avro: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro, list):
        return st.one_of([_value(branch) for branch in avro])
    if isinstance(avro, str):
        return SCALARS[avro]
    match avro["type"]:
        case "array":
            return st.lists(_value(avro["items"]), max_size=3)
        case "map":
            return st.dictionaries(st.text(max_size=3), _value(avro["values"]), max_size=3)
        case "enum":
            return st.sampled_from(avro["symbols"])
    return st.binary(min_size=3, max_size=3)


@given(data=st.data(), seed=st.integers(0, 2**32), count=st.integers(1, 6))
def test_a_record_is_read_as_the_decoder_reads_it(
    data: st.DataObject, seed: int, count: int
) -> None:
    """Valid, or with a body of mutated bytes: the same values, or the same refusal."""
    types = [data.draw(_types(f"T{number}")) for number in range(count)]
    contract = contract_of(*types)
    values = [data.draw(_value(avro)) for avro in types]
    value = encoded(contract, *values)
    fields, records = readers(contract, value)
    decoder = Decoder(contract, Registry(contract))
    wanted = [f"f{number}" for number in range(0, count, 2)]
    some = FieldReader(decoder, wanted)
    decoder.decode(value)
    some.add_decoded(value)
    random = Random(seed)
    for body in [value, *(mutate(value, random) for _ in range(20))]:
        expected = result(decoder, body)
        assert result(records, body) == expected
        read = some.read(body)
        if read is not None:
            record = decoder.decode(body)
            assert repr(read) == repr(tuple(record[name] for name in wanted))
        event("read" if fields.read(body) is not None else "left to the decoder")


USUAL = {
    "boolean": (True, False),
    "int": (0, -1, 1_790_000_000, 2**31 - 1, -(2**31)),
    "long": (0, -1, 1_790_000_000_123, 2**62 - 1),
    "float": (0.5,),
    "double": (-1e300,),
    "bytes": (b"", b"\xff" * 63, b"\x00" * 8_191),
    "string": ("", "ação", "x" * 64, "愛" * 2_730),
}


@pytest.mark.parametrize(
    ("avro", "values"),
    [
        *USUAL.items(),
        *[(["null", kind], (None, *values)) for kind, values in USUAL.items()],
        *[({"type": "array", "items": kind}, ([], [*values])) for kind, values in USUAL.items()],
        ({"type": "map", "values": "string"}, ({}, {"k": "v", "ü": ""})),
        ({"type": "array", "items": ["null", "string"]}, ([None, "x"],)),
        ({"type": "string", "logicalType": "uuid"}, ("x",)),
        ({**ENUM, "name": "E"}, ("a", "c")),
        ({**FIXED, "name": "F"}, (b"abc",)),
        (["string", "null", "boolean"], ("x", None, True)),
    ],
    ids=str,
)
def test_usual_values_are_not_left_to_the_decoder(avro: Any, values: tuple[Any, ...]) -> None:
    """The decoder is right for everything; the reader is there for what is usual."""
    contract = contract_of("string", avro, "string")
    for usual in values:
        value = encoded(contract, "before", usual, "after")
        fields, _ = readers(contract, value)
        assert fields.read(value) == ("before", usual, "after")


UNUSUAL: dict[str, tuple[Any, str]] = {
    "negative length": ("string", "01 61"),
    "negative long length": ("string", "81 01" + 64 * "61"),
    "length in more bytes than needed": ("string", "82 00 61"),
    "length of three bytes": ("string", "80 80 01" + 8192 * "61"),
    "text that is no UTF-8": ("string", "02 ff"),
    "number in more bytes than needed": ("long", "82 00"),
    "number of ten bytes": ("long", 9 * "ff" + "01"),
    "int of 33 bits": ("int", "80 80 80 80 20"),
    "int of six bytes": ("int", "80 80 80 80 80 01"),
    "boolean of 2": ("boolean", "02"),
    "union's negative index": (["null", "string"], "01"),
    "union's index beyond its branches": (["null", "string"], "04"),
    "enum's index beyond its symbols": ({**ENUM, "name": "E"}, "06"),
    "enum's negative index": ({**ENUM, "name": "E"}, "01"),
    "array's block with its size": ({"type": "array", "items": "int"}, "01 02 08 00"),
    "map's key twice": ({"type": "map", "values": "int"}, "04 0261 02 0261 04 00"),
    "no end": (["null", "long"], "02 80"),
    "nothing": ("double", ""),
}


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_unusual_is_left_to_the_decoder(name: str, wanted: bool) -> None:
    """Whether the field is wanted or not."""
    avro, body = UNUSUAL[name]
    contract = contract_of("string", avro)
    decoder = Decoder(contract, Registry(contract))
    fields = FieldReader(decoder, ["f1"] if wanted else ["f0"])
    value = encoded(contract, "x", _usual(avro))
    decoder.decode(value)
    fields.add_decoded(value)
    assert fields.read(value) is not None
    assert fields.read(value[:18] + b"\x02x" + bytes.fromhex(body)) is None
    assert fields.read(value + b"\x00") is None


def _usual(avro: Any) -> Any:
    kind = avro["type"] if isinstance(avro, dict) else avro
    values = {"enum": "a", "array": [1], "map": {"k": 1}, "string": "", "boolean": True}
    return None if isinstance(avro, list) else values.get(kind, 1)


def test_a_header_is_learnt_from_a_decoded_value_alone() -> None:
    """An unknown schema version, or compression, is the decoder's; so is another version."""
    contract = contract_of("string")
    value = encoded(contract, "x")
    fields, records = readers(contract, value)
    assert fields.read(value) == ("x",)
    assert fields.read(None) is None
    assert fields.read(value[:2] + UUID(int=2).bytes + value[18:]) is None
    compressed = Encoder(contract, VERSION).encode({"f0": "x"}, compress=True)
    fields.add_decoded(compressed)
    assert fields.read(compressed) is None
    assert records.decode(compressed) == {"f0": "x"}


def test_a_value_of_an_older_version_is_left_to_the_decoder() -> None:
    """Here its fields are in another order; all are text."""
    contract = contract_of("string", "string")
    value = encoded(contract, "x", "y")
    avro = contract.newest.avro
    avro["fields"].reverse()
    newer = replace(contract, versions=(*contract.versions, SchemaVersion(2, json.dumps(avro))))
    records = RecordDecoder(Decoder(newer, Registry(contract)))
    assert [records.decode(value) for _ in range(2)] == [{"f0": "x", "f1": "y"}] * 2


def test_a_value_that_is_too_large_is_left_to_the_decoder() -> None:
    """Whether or not it could be read."""
    contract = replace(contract_of("string"), max_bytes=20)
    fields, records = readers(contract, encoded(contract, "x"))
    assert fields.read(encoded(contract, "xx")) is None
    with pytest.raises(InvalidRecord, match="oversize"):
        records.decode(encoded(contract, "xx"))


INNER = {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "int"}]}


@pytest.mark.parametrize(
    ("avro", "usual"),
    [
        (INNER, {"a": 1}),
        (["null", INNER], {"a": 1}),
        ({"type": "array", "items": {"type": "array", "items": "int"}}, [[1], []]),
        ({"type": "map", "values": {"type": "map", "values": "int"}}, {"a": {"b": 1}}),
    ],
    ids=["record", "nullable record", "arrays", "maps"],
)  # fmt: skip
def test_a_schema_that_is_not_flat_is_left_to_the_decoder(avro: Any, usual: Any) -> None:
    """With the same results."""
    contract = contract_of("string", avro)
    value = encoded(contract, "x", usual)
    fields, records = readers(contract, value)
    assert fields.read(value) is None
    assert records.decode(value) == {"f0": "x", "f1": usual}


def test_unions_and_enums_of_many_branches_are_read_by_the_decoder_where_an_index_is_long() -> None:
    """An index of 64 and above takes two bytes."""
    symbols = [f"s{number}" for number in range(100)]
    contract = contract_of({"type": "enum", "name": "E", "symbols": symbols})
    for symbol, read in (("s63", ("s63",)), ("s64", None)):
        value = encoded(contract, symbol)
        fields, records = readers(contract, value)
        assert fields.read(value) == read
        assert records.decode(value) == {"f0": symbol}
    fixed = [{"type": "fixed", "name": f"F{n}", "size": n + 2} for n in range(64)]
    contract = contract_of([*fixed, {"type": "fixed", "name": "F64", "size": 1}], "string")
    for branch, left in ((bytes(65), False), (b"\x02", True)):
        value = encoded(contract, branch, "")
        fields, records = readers(contract, value)
        assert (fields.read(value) is None) is left
        assert records.decode(value) == {"f0": branch, "f1": ""}
