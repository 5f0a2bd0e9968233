"""What an Avro schema may not contain, each in one sentence that names the field."""

from __future__ import annotations

import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.definitions import definition_faults, unsafe_parts


def record(*types: Any, **more: Any) -> str:
    fields = [{"name": f"f{number}", "type": avro} for number, avro in enumerate(types)]
    return json.dumps({"type": "record", "name": "R", "namespace": "n", "fields": fields, **more})


def named(name: str, *types: Any) -> dict[str, Any]:
    fields = [{"name": f"f{number}", "type": avro} for number, avro in enumerate(types)]
    return {"type": "record", "name": name, "fields": fields}


ENUM = {"type": "enum", "name": "E", "symbols": ["A"]}


@pytest.mark.parametrize(
    "definition",
    [
        record(),
        record("string", ["null", "long"]),
        record(named("P", "string"), "P", "n.P", ["null", "P"]),
        record({"type": "map", "values": {"type": "array", "items": ENUM}}, "E"),
        record({"type": "array", "items": ["null"]}),
        record({"type": "fixed", "name": "other.F", "size": 0}, "other.F"),
        record({"type": "long", "logicalType": "no such type"}),
        record({"type": "bytes", "logicalType": "decimal", "scale": 3}),
    ],
)
def test_a_definition_that_avro_takes_has_no_fault(definition: str) -> None:
    """Names are found in their namespace and by their full name."""
    assert definition_faults(definition) == []


@pytest.mark.parametrize(
    ("definition", "fault"),
    [
        (record("other.Money"), "f0: the type 'other.Money' is not defined before it"),
        (record("P", named("P")), "f0: the type 'P' is not defined before it"),
        (record(named("P"), ["null", named("P")]), "f1: 'n.P' is defined twice, at 'f0'"),
        (record("array"), "f0: 'array' needs an object"),
        (record({"type": {"type": "string"}}), 'f0: {"type": "string"} is not an Avro type'),
        (record({"items": "string"}), "f0: null is not an Avro type"),
        (record(ENUM, {"type": "E"}), "refer to 'E' by its name alone"),
        (record([]), "f0: a union of no types"),
        (record(["string", "string"]), "f0: the union has 'string' twice"),
        (record(["null", ["string"]]), "f0: a union directly in a union"),
        (record({"type": "array"}), "f0: an array without items"),
        (record({"type": "map"}), "f0: a map without values"),
        (record({"type": "fixed", "name": "F", "size": -1}), "f0: the fixed type has the size -1"),
        (record({"type": "enum", "name": "E", "symbols": []}), "f0: the enum has no symbols"),
        (record({"type": "enum", "name": "E", "symbols": ["A-B"]}), 'a symbol is named "A-B"'),
        (record({**ENUM, "symbols": ["A", "A"]}), "f0: the enum has a symbol twice"),
        (record({**ENUM, "default": "B"}), 'f0: the default "B" is none of the enum'),
        (
            record(named("my-type")),
            """the record 'n.my-type' is named "my-type", which is no Avro""",
        ),
        (record(namespace="my-company"), 'is named "my-company", which is no Avro name'),
        (record(aliases=["a b"]), """an alias of 'n.R' is named "a b", which is no Avro name"""),
        (
            record(fields=[{"name": "page-count", "type": "int"}]),
            "'page-count': the field is named",
        ),
        (record(fields=[{"name": "ä", "type": "int"}]), "which is no Avro name"),
        (record(fields=[{"name": "a\n", "type": "int"}]), "which is no Avro name"),
        (record(fields=[{"name": "a", "type": "int"}] * 2), "a: the record has this field twice"),
        (record(fields=[{"type": "int"}]), "is a field without name"),
        (record(fields=[{"name": "a"}]), "a: the field has no type"),
        (record({"type": "error", "name": "E", "fields": []}), '{"type": "error"} is not an Avro'),
        (record(aliases="Old"), 'the record: aliases is "Old", expected a list'),
        (record(fields=[{"name": "a", "type": "int", "aliases": "b"}]), 'a: aliases is "b"'),
        (record(fields=[{"name": "a", "type": "int", "order": "up"}]), 'a: the order "up" is not'),
        (record(fields=[{"name": "a", "type": "float", "default": float("nan")}]), "NaN is no num"),
        ('{"type": "record", "a": ' + "[" * 100_000, "nested too deeply"),
        ('[{"type": "record"}]', "not an Avro record schema, but a union of 1 types"),
        (record(name="string", namespace=""), "'string' is a type of Avro"),
    ],
)
def test_what_avro_refuses_is_a_fault_with_its_field(definition: str, fault: str) -> None:
    """One sentence, never an exception of a parser."""
    (found,) = definition_faults(definition)
    assert fault in found


def test_every_fault_is_reported() -> None:
    """Not only the first."""
    assert len(definition_faults(record("Money", {"type": "map"}, aliases=["a-b"]))) == 3


def _doubling(levels: int) -> str:
    """A record of a few bytes with 2**levels values."""
    inner: Any = named("T0", "null", "null")
    for level in range(1, levels):
        inner = named(f"T{level}", inner, f"T{level - 1}")
    return record(inner)


def _deep(levels: int) -> str:
    inner: Any = "string"
    for _ in range(levels):
        inner = {"type": "array", "items": inner}
    return record(inner)


@pytest.mark.parametrize(
    ("definition", "fault"),
    [
        (record(["null", "R"]), "f0: 'R' contains itself"),
        (record(named("A", ["null", {"type": "array", "items": "n.A"}])), "contains itself"),
        (record({"type": "array", "items": "null"}), "f0: items without any bytes"),
        (record({"type": "array", "items": named("Empty")}), "f0: items without any bytes"),
        (record({"type": "array", "items": named("N", "null", named("M"))}), "without any bytes"),
        (
            record({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
            "f0: items without any bytes",
        ),
        (_doubling(20), "the record has more than 100,000 values"),
        (_deep(100), "nested deeper than 64 types"),
    ],
)
def test_what_no_decoder_reads_safely_is_refused(definition: str, fault: str) -> None:
    """Such schemas are valid Avro: a small record overflows the stack, or never ends."""
    (found,) = unsafe_parts(json.loads(definition))
    assert fault in found
    assert found in definition_faults(definition)


def test_the_walk_through_types_that_are_used_again_is_short() -> None:
    """Each is measured once: 60 levels would never end otherwise."""
    assert definition_faults(_doubling(60)) != []


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        ["null", "string", "record", "enum", "fixed", "array", "map", "R", "x-y", ""]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "type",
                    "name",
                    "namespace",
                    "fields",
                    "items",
                    "values",
                    "symbols",
                    "size",
                    "default",
                )
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_no_json_makes_the_walk_raise(value: Any) -> None:
    """What it lets pass, the codec parses."""
    fields = [{"name": "a", "type": value}, {"name": "b", "type": "string", "default": value}]
    for fields_or_type in (fields, value):
        definition = record(fields=fields_or_type)
        if definition_faults(definition) == []:
            fastavro.parse_schema(json.loads(definition), named_schemas={})
    definition_faults(json.dumps(value))
