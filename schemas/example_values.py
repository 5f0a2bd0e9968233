"""Values of examples as JSON writes them, and as the codec reads them.

JSON has neither bytes nor a float of 32 bits, and an example leaves out what the schema defaults.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

from schemas.definitions import NAMED, full_name

_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (float, int),
    "double": (float, int),
    "string": (str,),
    "enum": (str,),
    "bytes": (bytes, str),
    "fixed": (bytes, str),
    "array": (list,),
    "map": (dict,),
    "record": (dict,),
}


class ExampleValues:
    """The values of one record schema, as parsed JSON."""

    def __init__(self, avro: Any) -> None:
        self._avro = avro
        self._named: dict[str, Any] = {}
        self._define(avro, "")

    def with_bytes(self, record: Any) -> Any:
        """A record with base64 text as bytes; raises ValueError for text that is none."""
        return self._value(self._avro, record, is_complete=False)

    def as_read(self, record: Any) -> Any:
        """What the codec reads of a record: all defaults in it, floats of 32 bits rounded."""
        return self._value(self._avro, record, is_complete=True)

    def _define(self, avro: Any, space: str) -> None:
        for inner in avro if isinstance(avro, list) else ():
            self._define(inner, space)
        if not isinstance(avro, dict):
            return
        if avro["type"] in NAMED:
            avro["full name"] = full_name(avro["name"], avro.get("namespace", space))
            space = avro["full name"].rpartition(".")[0]
            self._named[avro["full name"]] = avro
        avro["space"] = space
        for entry in avro.get("fields", ()):
            self._define(entry["type"], space)
            entry["type"] = self._resolved(entry["type"], space)
        for part in ("items", "values"):
            if part in avro:
                self._define(avro[part], space)
                avro[part] = self._resolved(avro[part], space)

    def _resolved(self, avro: Any, space: str) -> Any:
        """A type with the definitions of the names in it."""
        if isinstance(avro, list):
            return [self._resolved(branch, space) for branch in avro]
        if isinstance(avro, str):
            return self._named.get(full_name(avro, space), self._named.get(avro, avro))
        return avro

    def _value(self, avro: Any, value: Any, *, is_complete: bool) -> Any:
        if isinstance(avro, list):
            return self._of_union(avro, value, is_complete)
        kind = avro["type"] if isinstance(avro, dict) else avro
        match kind, value:
            case "record", dict():
                return self._record(avro, value, is_complete)
            case "array", list():
                return [self._value(avro["items"], e, is_complete=is_complete) for e in value]
            case "map", dict():
                values = avro["values"]
                return {
                    key: self._value(values, e, is_complete=is_complete) for key, e in value.items()
                }
            case (("bytes" | "fixed"), str()):
                return base64.b64decode(value, validate=True)
            case (("float" | "double"), int()) if is_complete and not isinstance(value, bool):
                return self._value(avro, float(value), is_complete=True)
            case "float", float() if is_complete:
                return struct.unpack("<f", struct.pack("<f", value))[0]
        return value

    def _record(self, avro: Any, value: dict[str, Any], is_complete: bool) -> dict[str, Any]:
        record = dict(value)
        for entry in avro["fields"]:
            name = entry["name"]
            if name in value:
                record[name] = self._value(entry["type"], value[name], is_complete=is_complete)
            elif is_complete:
                default = entry.get("default")
                record[name] = self._value(entry["type"], default, is_complete=True)
        return record

    def _of_union(self, branches: list[Any], value: Any, is_complete: bool) -> Any:
        """The value as the first branch that its Python type fits; a record by its fields."""
        if value is None and "null" in branches:
            return None
        fitting = [b for b in branches if type(value) in _PYTHON_TYPES.get(_kind(b), ())]
        if isinstance(value, dict):
            exact = [b for b in fitting if _has_the_fields(b, value)]
            fitting = exact or [b for b in fitting if _kind(b) == "map"] or fitting
        if isinstance(value, str) and "string" in [_kind(b) for b in fitting]:
            return value
        return self._value(fitting[0], value, is_complete=is_complete) if fitting else value


def _kind(avro: Any) -> str:
    return str(avro["type"] if isinstance(avro, dict) else avro)


def _has_the_fields(avro: Any, value: dict[str, Any]) -> bool:
    names = {entry["name"]: entry for entry in avro.get("fields", ())}
    return set(value) <= set(names) and all(
        name in value or "default" in entry or "null" in entry["type"]
        for name, entry in names.items()
    )
