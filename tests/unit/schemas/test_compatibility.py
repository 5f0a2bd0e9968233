"""The gate before a registration refuses what would break a reader, and nothing else."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import UUID

import fastavro
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from schemas.codec import encode_body, parse_plain
from schemas.compatibility import incompatibilities
from schemas.definitions import definition_faults
from schemas.model import COMPATIBILITY_MODES

Json = dict[str, Any]
OPTIONAL_TEXT: Json = {"name": "b", "type": ["null", "string"], "default": None}


def record(*fields: Json, name: str = "R", **more: Any) -> Json:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, avro: Any, **more: Any) -> Json:
    return {"name": name, "type": avro, **more}


def enum(*symbols: str, **more: Any) -> Json:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def verdict(mode: str, new: Json, *former: Json) -> list[str]:
    return incompatibilities(mode, json.dumps(new), [json.dumps(one) for one in former])


BASE = record(field("a", "string"))

# What changes from version 1 to version 2, and whether (version 2 reads version 1, the reverse).
CHANGES: dict[str, tuple[Json, Json, bool, bool]] = {
    "nothing": (BASE, BASE, True, True),
    "field added with a default": (BASE, record(field("a", "string"), OPTIONAL_TEXT), True, True),
    "field added without a default": (
        BASE, record(field("a", "string"), field("b", "int")), False, True,
    ),
    "field removed": (record(field("a", "string"), field("b", "int")), BASE, True, False),
    "field with a default removed": (record(field("a", "string"), OPTIONAL_TEXT), BASE, True, True),
    "field renamed": (BASE, record(field("c", "string")), False, False),
    "field renamed with an alias": (
        BASE, record(field("c", "string", aliases=["a"])), True, False,
    ),
    "fields in another order": (
        record(field("a", "string"), field("b", "int")),
        record(field("b", "int"), field("a", "string")), True, True,
    ),
    "int to long": (record(field("a", "int")), record(field("a", "long")), True, False),
    "long to int": (record(field("a", "long")), record(field("a", "int")), False, True),
    "long to double": (record(field("a", "long")), record(field("a", "double")), True, False),
    "string to int": (BASE, record(field("a", "int")), False, False),
    "bytes to string": (record(field("a", "bytes")), BASE, False, True),
    "made nullable": (BASE, record(field("a", ["null", "string"])), True, False),
    "made required": (record(field("a", ["null", "string"])), BASE, False, True),
    "nullable int to nullable long": (
        record(field("a", ["null", "int"])), record(field("a", ["null", "long"])), True, False,
    ),
    "union widened": (
        record(field("a", ["null", "string"])),
        record(field("a", ["null", "string", "int"])), True, False,
    ),
    "union narrowed": (
        record(field("a", ["null", "string", "int"])),
        record(field("a", ["null", "string"])), False, True,
    ),
    "enum symbol added": (record(field("a", enum("x"))), record(field("a", enum("x", "y"))),
                          True, False),
    "enum symbol added, former readers have a default": (
        record(field("a", enum("x", default="x"))), record(field("a", enum("x", "y"))), True, True,
    ),
    "enum symbol removed": (record(field("a", enum("x", "y"))), record(field("a", enum("x"))),
                            False, True),
    "record renamed": (BASE, record(field("a", "string"), name="S"), False, False),
    "record renamed with an alias": (
        BASE, record(field("a", "string"), name="S", aliases=["R"]), True, False,
    ),
    "namespace changed": (BASE, record(field("a", "string"), namespace="other"), True, True),
    "nested: field added without a default": (
        record(field("n", record(field("x", "int"), name="N"))),
        record(field("n", record(field("x", "int"), field("y", "int"), name="N"))), False, True,
    ),
    "nested in a union: field added without a default": (
        record(field("n", ["null", record(field("x", "int"), name="N")])),
        record(field("n", ["null", record(field("x", "int"), field("y", "int"), name="N")])),
        False, True,
    ),
    "nested in an array: int to long": (
        record(field("n", {"type": "array", "items": "int"})),
        record(field("n", {"type": "array", "items": "long"})), True, False,
    ),
    "map values: string to int": (
        record(field("n", {"type": "map", "values": "string"})),
        record(field("n", {"type": "map", "values": "int"})), False, False,
    ),
    "fixed of another size": (
        record(field("n", {"type": "fixed", "name": "F", "size": 4})),
        record(field("n", {"type": "fixed", "name": "F", "size": 8})), False, False,
    ),
    "milliseconds to microseconds": (
        record(field("t", {"type": "long", "logicalType": "timestamp-millis"})),
        record(field("t", {"type": "long", "logicalType": "timestamp-micros"})), False, False,
    ),
    "nullable milliseconds to nullable microseconds": (
        record(field("t", ["null", {"type": "long", "logicalType": "timestamp-millis"}])),
        record(field("t", ["null", {"type": "long", "logicalType": "timestamp-micros"}])),
        False, False,
    ),
    "decimal of another scale": (
        record(field("d", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2})),
        record(field("d", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3})),
        False, False,
    ),
    "logical type added": (
        record(field("t", "long")),
        record(field("t", {"type": "long", "logicalType": "timestamp-millis"})), True, True,
    ),
    "renamed with an unqualified alias": (
        record(field("x", "int"), name="space.Old"),
        record(field("x", "int"), name="space.New", aliases=["Old"]), True, False,
    ),
    "renamed with an alias in another namespace": (
        record(field("x", "int"), name="space.Old"),
        record(field("x", "int"), name="space.New", aliases=["other.Old"]), False, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_each_direction_of_a_change_has_its_own_verdict(change: str) -> None:
    """BACKWARD asks whether new reads old, FORWARD whether old reads new, FULL both."""
    before, after, backward, forward = CHANGES[change]
    assert (verdict("BACKWARD", after, before) == []) is backward
    assert (verdict("FORWARD", after, before) == []) is forward
    assert (verdict("FULL", after, before) == []) is (backward and forward)
    assert verdict("NONE", after, before) == []


def test_messages_name_field_reason_and_versions() -> None:
    """Also inside unions, where avro.compatibility says only 'union lacking RECORD'."""
    before = record(field("user", ["null", record(field("x", "int"), name="N")]))
    after = record(
        field("user", ["null", record(field("x", "string"), field("country", "string"), name="N")])
    )
    assert verdict("BACKWARD", after, before) == [
        "user.x: string does not read int (the new version could not read version 1)",
        (
            "user.country: has no default and is not written by version 1"
            " (the new version could not read version 1)"
        ),
    ]


def test_every_fault_is_told_at_once() -> None:
    """A person repairs a schema in one go."""
    after = record(field("a", "string"), field("b", "int"), field("c", "int"))
    assert [line.partition(":")[0] for line in verdict("BACKWARD", after, BASE)] == ["b", "c"]


def test_all_looks_at_every_former_version_and_the_others_at_the_last_one() -> None:
    """b is missing from version 1 only."""
    second = record(field("a", "string"), OPTIONAL_TEXT)
    third = record(field("a", "string"), field("b", ["null", "string"]))
    assert verdict("BACKWARD", third, BASE, second) == []
    assert verdict("BACKWARD_ALL", third, BASE, second) == [
        (
            "b: has no default and is not written by version 1"
            " (the new version could not read version 1)"
        )
    ]
    assert "version 1 could not read" in verdict("FORWARD_ALL", record(OPTIONAL_TEXT), BASE)[0]


@pytest.mark.parametrize(
    ("avro", "default"),
    [
        ("int", "x"),
        ("int", True),
        ("int", 2**31),
        ("long", 1.5),
        (["null", "int"], 3),
        (["string", "null"], None),
        ({"type": "array", "items": "int"}, ["x"]),
        ({"type": "map", "values": "int"}, {"k": "x"}),
        (enum("a"), "b"),
        (record(field("q", "int"), name="N"), {}),
        ("bytes", "\u00ff"),
    ],
)
def test_a_default_that_readers_cannot_use_is_refused_in_every_mode(
    avro: Any, default: Any
) -> None:
    """avro.schema.parse takes all of these; a reader meets them with the first older record."""
    candidate = record(field("a", "string"), field("b", avro, default=default))
    for mode in COMPATIBILITY_MODES:
        assert any(line.startswith("b: the default") for line in verdict(mode, candidate, BASE))


@pytest.mark.parametrize(
    ("avro", "default"),
    [
        ("long", 0),
        ("double", 1),
        ("boolean", False),
        (["null", "int"], None),
        ({"type": "array", "items": "string"}, []),
        (enum("a"), "a"),
        (record(field("q", ["null", "int"]), name="N"), {"q": None}),
    ],
)
def test_a_default_that_fits_is_taken(avro: Any, default: Any) -> None:
    """The check of defaults refuses nothing that works."""
    assert definition_faults(json.dumps(record(field("b", avro, default=default)))) == []


def test_an_alias_that_is_another_fields_name_is_refused() -> None:
    """avro says compatible; fastavro finds no value for the field with the alias."""
    candidate = record(field("new", "string", aliases=["a"]), field("a", "string", default="q"))
    assert verdict("BACKWARD", candidate, BASE) == [
        "new: the alias 'a' is the name of another field"
    ]


def test_a_branch_of_a_union_must_not_hide_a_later_one() -> None:
    """fastavro reads a long as the double before it; found by the property below, with bytes."""
    before = record(field("a", ["long", "double"]))
    after = record(field("a", ["double", "long"]))
    assert verdict("BACKWARD", after, before) == [
        "a: long would be read as double, put it before (the new version could not read version 1)"
    ]
    assert verdict("FORWARD", after, before) == []


@pytest.mark.parametrize(
    "text", ["", "{", '"string"', "[]", '{"type": "record", "name": "R"}', "7"]
)
def test_what_is_no_record_schema_is_refused_in_words(text: str) -> None:
    """A candidate never raises, and a broken former version is named."""
    assert len(incompatibilities("NONE", text, [])) == 1
    assert "version 1" in incompatibilities("BACKWARD", json.dumps(BASE), [text])[0]


def test_an_unknown_mode_is_a_mistake_of_the_caller() -> None:
    """schemas.model has checked it before."""
    with pytest.raises(ValueError, match="SIDEWAYS"):
        incompatibilities("SIDEWAYS", json.dumps(BASE), [])


# The gate's promise, checked against the decoder that the pipelines use.

_scalar = st.sampled_from(["int", "long", "double", "string", "boolean", "bytes"])


def _types(depth: int) -> st.SearchStrategy[Any]:
    if depth == 0:
        return _scalar
    inner = _types(depth - 1)
    return st.one_of(
        _scalar,
        st.sampled_from([enum("x"), enum("x", "y"), enum("y", "z", default="z")]),
        inner.map(lambda t: {"type": "array", "items": t}),
        inner.map(lambda t: {"type": "map", "values": t}),
        _scalar.map(lambda t: ["null", t]),
        st.lists(_scalar, min_size=1, max_size=3, unique=True),
        _fields(depth - 1).map(lambda fields: record(*fields, name="N")),
        _fields(depth - 1).map(lambda fields: ["null", record(*fields, name="N")]),
    )


@st.composite
def _fields(draw: st.DrawFn, depth: int) -> list[Json]:
    fields = []
    for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        avro = draw(_types(depth))
        more: Json = {}
        if draw(st.booleans()):
            more["default"] = _default(avro)
        if draw(st.integers(0, 5)) == 0:
            more["aliases"] = [draw(st.sampled_from("abcd"))]
        fields.append(field(name, avro, **more))
    return fields


def _default(avro: Any) -> Any:
    kind = avro if isinstance(avro, (str, list)) else avro["type"]
    if isinstance(kind, list):
        return _default(kind[0])
    if kind == "record":
        return {entry["name"]: _default(entry["type"]) for entry in avro["fields"]}
    simple = {"null": None, "int": 1, "long": 2, "double": 0.5, "string": "s", "boolean": True}
    return {**simple, "bytes": "b", "array": [], "map": {}, "enum": "x"}.get(kind)


def _value(avro: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro, list):
        # fastavro takes the branch by the value: an int is an int even where a long is meant.
        return st.one_of([_value(branch) for branch in avro])
    kind = avro if isinstance(avro, str) else avro["type"]
    match kind:
        case "record":
            return st.fixed_dictionaries({f["name"]: _value(f["type"]) for f in avro["fields"]})
        case "array":
            return st.lists(_value(avro["items"]), max_size=2)
        case "map":
            return st.dictionaries(st.text(max_size=2), _value(avro["values"]), max_size=2)
        case "enum":
            return st.sampled_from(avro["symbols"])
    scalars: dict[str, st.SearchStrategy[Any]] = {
        "null": st.none(),
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "double": st.floats(allow_nan=False),
        "string": st.text(max_size=3),
        "boolean": st.booleans(),
        "bytes": st.binary(max_size=3),
    }
    return scalars[kind]


def _has_one_name_once(avro: Json) -> bool:
    """Avro allows a name to be defined once in a schema."""
    text = json.dumps(avro)
    return text.count('"name": "N"') <= 1 and text.count('"name": "E"') <= 1


def _changed(avro: Any) -> st.SearchStrategy[Any]:
    """The type itself, or a variation of it."""
    if isinstance(avro, list):
        return st.one_of(st.just(avro), st.permutations(avro), st.just([*avro, enum("q")]))
    if isinstance(avro, str):
        wider = {"int": ["long", "double"], "long": ["double"], "string": ["bytes"]}
        return st.sampled_from([avro, *wider.get(avro, []), ["null", avro], [avro]])
    match avro["type"]:
        case "array":
            return _changed(avro["items"]).map(lambda t: {**avro, "items": t})
        case "map":
            return _changed(avro["values"]).map(lambda t: {**avro, "values": t})
        case "record":
            return _changed_record(avro)
    return st.sampled_from([avro, {**avro, "symbols": [*avro["symbols"], "w"]}])


@st.composite
def _changed_record(draw: st.DrawFn, avro: Json) -> Json:
    kept = [one for one in avro["fields"] if draw(st.integers(0, 3))]
    fields = [{"name": one["name"], "type": draw(_changed(one["type"]))} for one in kept]
    if draw(st.booleans()):
        fields.append(field("new", ["null", "int"], default=None))
    if fields and draw(st.integers(0, 3)) == 0:
        fields[0] = {**fields[0], "name": "renamed", "aliases": [fields[0]["name"]]}
    return {**avro, "fields": draw(st.permutations(fields))}


_schemas = _fields(2).map(lambda fields: record(*fields)).filter(_has_one_name_once)


@given(data=st.data(), before=_schemas)
def test_what_the_gate_lets_pass_the_decoder_reads(data: st.DataObject, before: Json) -> None:
    """No record of the former version becomes a dead letter under a version that was accepted."""
    after = data.draw(st.one_of(_changed_record(before), _changed_record(before), _schemas))
    passes = not verdict("BACKWARD", after, before) and not definition_faults(json.dumps(before))
    event(f"passes the gate: {passes}")
    if not passes:
        return
    writer, reader = parse_plain(before), parse_plain(after)
    body = encode_body(writer, data.draw(_value(before)))
    decoded = fastavro.schemaless_reader(io.BytesIO(body), writer, reader)
    assert isinstance(decoded, dict)
    encode_body(reader, decoded)


def test_ids_are_not_part_of_a_verdict() -> None:
    """Doc texts and names of no consequence may change."""
    after = record(field("a", "string", doc="said differently"), doc=str(UUID(int=1)))
    assert verdict("FULL", after, BASE) == []
