"""Avro's binary encoding: read as the specification says, and refused where readers disagree."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from avro.errors import InvalidAvroBinaryEncoding
from hypothesis import given
from hypothesis import strategies as st

from schemas.binary import compile_reader
from schemas.codec import encode_body, parse_plain
from schemas.invalid import InvalidRecord, Reason
from tests.support.strict_avro import read_strictly

ENUM = {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}
POINT = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "int"}]}
ARRAY = {"type": "array", "items": "long"}
MAP = {"type": "map", "values": "boolean"}


def of(avro: Any) -> dict[str, Any]:
    """A record with the one field ``f``, and one behind it."""
    fields = [{"name": "f", "type": avro}, {"name": "end", "type": "boolean"}]
    return {"type": "record", "name": "R", "fields": fields}


def read(avro: Any, body: bytes) -> Any:
    value = compile_reader(parse_plain(of(avro)))(body + b"\x01")
    assert value["end"] is True
    return value["f"]


@pytest.mark.parametrize(
    ("avro", "body", "expected"),
    [
        ("null", b"", None),
        ("boolean", b"\x00", False),
        ("boolean", b"\x01", True),
        ("int", b"\xff\xff\xff\xff\x0f", -(2**31)),
        ("int", b"\xfe\xff\xff\xff\x0f", 2**31 - 1),
        ("long", b"\x01", -1),
        ("long", b"\x80\x01", 64),
        ("long", b"\xff" * 9 + b"\x01", -(2**63)),
        ("long", b"\xfe" + b"\xff" * 8 + b"\x01", 2**63 - 1),
        ("float", struct.pack("<f", 1.5), 1.5),
        ("double", struct.pack("<d", 0.1), 0.1),
        ("bytes", b"\x04\xff\x00", b"\xff\x00"),
        ("string", b"\x06\xe6\x84\x9b", "愛"),
        ("string", b"\x80\x01" + b"x" * 64, "x" * 64),
        ({"type": "string", "avro.java.string": "String"}, b"\x02a", "a"),
        ({"type": "fixed", "name": "F", "size": 2}, b"\xff\x00", b"\xff\x00"),
        (ENUM, b"\x02", "b"),
        (ARRAY, b"\x04\x02\x04\x00", [1, 2]),
        (ARRAY, b"\x02\x02\x02\x04\x00", [1, 2]),
        (ARRAY, b"\x03\x06\x02\x80\x01\x00", [1, 64]),
        (ARRAY, b"\x00", []),
        (MAP, b"\x04\x02a\x01\x02b\x00\x00", {"a": True, "b": False}),
        (MAP, b"\x01\x06\x02a\x01\x00", {"a": True}),
        (["null", "string"], b"\x00", None),
        (["null", "string"], b"\x02\x02a", "a"),
        (["int", "long", POINT], b"\x04\x02", {"x": 1}),
        ([{"type": "fixed", "name": f"F{n}", "size": n} for n in range(1, 70)],
         b"\x82\x01" + b"x" * 66, b"x" * 66),
    ],
)  # fmt: skip
def test_values_are_read_as_avro_defines_them(avro: Any, body: bytes, expected: Any) -> None:
    """Arrays and maps in one block or in several, with or without their sizes."""
    assert read(avro, body) == expected
    assert read_strictly(json.dumps(of(avro)), body + b"\x01") == {"f": expected, "end": True}


@pytest.mark.parametrize(
    ("avro", "body", "problem"),
    [
        ("boolean", b"\x02", "f: a boolean is the byte 0x02, expected 0x00 or 0x01"),
        ("boolean", b"\xff", "f: a boolean is the byte 0xff, expected 0x00 or 0x01"),
        ("int", b"\x80\x80\x80\x80\x10", "f: 2147483648 is not a 32-bit integer"),
        ("long", b"\x82\x00", "f: a number in more bytes than it needs"),
        ("long", b"\x80" * 9 + b"\x02", "f: a number beyond 64 bits"),
        ("long", b"\x82" + b"\x80" * 11 + b"\x00", "f: a number of more than 10 bytes"),
        ("long", b"\x82" + b"\x80" * 11 + b"\x01", "f: a number of more than 10 bytes"),
        ("string", b"\x03", "f: a length of -2 bytes"),
        ("string", b"\x82\x00a", "f: a number in more bytes than it needs"),
        ("string", b"\x81\x01", "f: a length of -65 bytes"),
        ("string", b"\x06\xed\xa0\x80", "f: text that is not UTF-8: .*"),
        ("string", b"\x04\xc0\x80", "f: text that is not UTF-8: .*"),
        ("bytes", b"\x01", "f: a length of -1 bytes"),
        (ENUM, b"\x01", "f: a symbol of an enum has the index -1, expected 0 to 1"),
        (ENUM, b"\x04", "f: a symbol of an enum has the index 2, expected 0 to 1"),
        (["null", "string"], b"\x01\x02a", "f: a branch of a union has the index -1, .* 0 to 1"),
        (["null", "string"], b"\x03", "f: a branch of a union has the index -2, .* 0 to 1"),
        (["null", "string"], b"\x04", "f: a branch of a union has the index 2, .* 0 to 1"),
        (["null", "string"], b"\x80\x00", "f: a number in more bytes than it needs"),
        (ARRAY, b"\x01\x04\x02\x00", r"f: a block ends -1 bytes from where it says"),
        (ARRAY, b"\x01\x00\x02\x00", r"f: a block ends \+1 bytes from where it says"),
        (ARRAY, b"\x01\x01\x02\x00", "f: a length of -1 bytes"),
        (ARRAY, b"\x84\x00\x02\x04\x00", "f: a number in more bytes than it needs"),
        (MAP, b"\x04\x02a\x01\x02a\x00\x00", "f: a key is twice in a map"),
        (POINT, b"\x80\x80\x80\x80\x10", "f: x: 2147483648 is not a 32-bit integer"),
    ],
)
def test_what_readers_disagree_on_is_the_wrong_type(avro: Any, body: bytes, problem: str) -> None:
    """Each of these is another record to another reader, or none."""
    with pytest.raises(InvalidRecord, match=f"^wrong_type: {problem}$") as caught:
        read(avro, body)
    assert caught.value.field == "f"


@pytest.mark.parametrize(
    ("avro", "body"),
    [
        ("boolean", b""),
        ("long", b"\x80"),
        ("double", b"\x00" * 7),
        ("string", b"\x06\xe6\x84"),
        ("bytes", b"\xfe" + b"\xff" * 8 + b"\x01"),
        ({"type": "fixed", "name": "F", "size": 2**40}, b"\x00"),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 4}},
         b"\xfe" + b"\xff" * 8 + b"\x01"),
        ({"type": "array", "items": "string"}, b"\xff" * 9 + b"\x01\x00"),
        (["null", "string"], b"\x02"),
        (ENUM, b""),
        (MAP, b"\x02\x02"),
    ],
)  # fmt: skip
def test_a_body_that_ends_before_its_record_is_truncated(avro: Any, body: bytes) -> None:
    """Also where a length or a count says that almost anything follows: at once."""
    reader = compile_reader(parse_plain({**of(avro), "fields": of(avro)["fields"][:1]}))
    with pytest.raises(InvalidRecord) as caught:
        reader(body)
    assert caught.value.reason is Reason.TRUNCATED_BODY


def test_a_block_of_another_size_is_refused_where_skipping_arrives_in_the_same_place() -> None:
    """Found by fuzzing: three items to a reader; a block of one and one of two, skipped."""
    body = b"\x05\x08" + b"\x06abc" + b"\x04\x02x" + b"\x02y" + b"\x00"
    schema = {"type": "array", "items": "bytes"}
    with pytest.raises(InvalidRecord, match="wrong_type: f: a block ends"):
        read(schema, body)
    with pytest.raises(InvalidAvroBinaryEncoding, match="a block of"):
        read_strictly(json.dumps(of(schema)), body + b"\x01")


_NAMED = st.sampled_from([ENUM, {"type": "fixed", "name": "F", "size": 3}, POINT])
_AVRO: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
    | _NAMED,
    lambda inner: (
        inner.filter(lambda avro: avro != "null").map(lambda avro: {"type": "array", "items": avro})
        | inner.map(lambda avro: {"type": "map", "values": avro})
        | inner.filter(lambda avro: not isinstance(avro, list) and avro != "null").map(
            lambda avro: ["null", avro]
        )
    ),
    max_leaves=3,
)


def _values(avro: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro, list):
        return st.none() | _values(avro[1])
    match avro if isinstance(avro, str) else avro["type"]:
        case "boolean":
            return st.booleans()
        case "int":
            return st.integers(-(2**31), 2**31 - 1)
        case "long":
            return st.integers(-(2**63), 2**63 - 1)
        case "float":
            return st.floats(width=32, allow_nan=False)
        case "double":
            return st.floats(allow_nan=False)
        case "bytes":
            return st.binary()
        case "string":
            return st.text()
        case "enum":
            return st.sampled_from(ENUM["symbols"])
        case "fixed":
            return st.binary(min_size=3, max_size=3)
        case "array":
            return st.lists(_values(avro["items"]), max_size=4)
        case "map":
            return st.dictionaries(st.text(), _values(avro["values"]), max_size=4)
        case "record":
            return st.fixed_dictionaries({"x": _values("int")})
    return st.none()


@given(data=st.data(), avro=_AVRO)
def test_every_value_comes_back_and_every_change_is_read_as_a_strict_reader_does(
    data: st.DataObject, avro: Any
) -> None:
    """Whatever the type; a changed byte is refused by both readers, or is the same to both."""
    schema = parse_plain(of(avro))
    reader = compile_reader(schema)
    value = {"f": data.draw(_values(avro)), "end": True}
    body = encode_body(schema, value)
    assert reader(body) == value
    position = data.draw(st.integers(0, len(body) - 1))
    changed = bytes([data.draw(st.integers(0, 255))])
    body = body[:position] + changed + body[position + 1 :]
    try:
        ours = reader(body)
    except InvalidRecord:
        with pytest.raises(Exception):  # noqa: B017, PT011 - of several libraries
            read_strictly(json.dumps(of(avro)), body)
    else:
        # As text: a changed float may be no number, which equals nothing.
        assert repr(ours) == repr(read_strictly(json.dumps(of(avro)), body))
