"""The types of records follow from the contracts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from schemas.model import BUILT_IN_FOLDER, SchemaVersion, load_contracts
from schemas.record_types import FILE, source


def test_the_types_of_records_are_current() -> None:
    """`python -m schemas.record_types` was run after the last change of a contract."""
    assert FILE.read_text() == source(load_contracts((BUILT_IN_FOLDER,)))


def test_every_avro_type_has_a_python_type() -> None:
    """Records that are referred to come first, null last."""
    inner: dict[str, Any] = {"type": "record", "name": "Inner", "doc": "In.", "fields": []}
    inner["fields"] = [{"name": "flag", "type": "boolean"}]
    types: dict[str, Any] = {
        "at": {"type": "long", "logicalType": "timestamp-millis"},
        "share": ["null", "double"],
        "kind": {"type": "enum", "name": "Kind", "symbols": ["A"]},
        "lists": {"type": "map", "values": {"type": "array", "items": inner}},
        "again": "Inner",
    }
    fields = [{"name": name, "type": avro} for name, avro in types.items()]
    avro = {"type": "record", "name": "Outer", "fields": fields}
    contract = replace(load_contracts()["trends"], versions=(SchemaVersion(1, json.dumps(avro)),))
    inner_class, outer_class = source([contract]).split("\n\n\n")[1:]
    assert inner_class == 'class Inner(TypedDict):\n    """In."""\n\n    flag: bool'
    assert outer_class == (
        'class Outer(TypedDict):\n    """A record of the contract trends."""\n\n'
        "    at: int\n    share: float | None\n    kind: str\n"
        "    lists: dict[str, list[Inner]]\n    again: Inner\n"
    )
