"""Faults of one Avro schema on its own, each in one sentence that names the field.

Refused is whatever Avro's Java library refuses (names, references, types that are defined twice,
unions, defaults), and what a decoder cannot read safely: a type that contains itself, array items
without any bytes, a definition that expands to more values than a record can have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

NAMED: Final = ("record", "enum", "fixed")
_PRIMITIVE: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MAX_DEPTH: Final = 64
MAX_EXPANDED_VALUES: Final = 100_000
"""Values that a record without arrays and maps may have: types that are used again and again double
them with each level, and a decoder walks through all of them for a body of a few bytes."""


def definition_faults(definition: str) -> list[str]:
    """Faults of a schema's JSON text; empty for a record schema that can be used."""
    walk = _Walk()
    try:
        walk.enter(json.loads(definition, parse_constant=_no_constant))
    except RecursionError:
        return ["nested too deeply"]
    except ValueError as error:
        return [f"not JSON: {error}"]
    return walk.faults + walk.unsafe


def unsafe_parts(schema: Any) -> list[str]:
    """What a decoder cannot read safely in a schema as parsed JSON, whatever else is wrong."""
    walk = _Walk()
    walk.enter(schema)
    return walk.unsafe


def join(path: str, name: str) -> str:
    """The path of a field in a record."""
    return f"{path}.{name}" if path else name


class _Size:
    """The least bytes of a value, and how many values it consists of outside arrays and maps."""

    __slots__ = ("least", "values")

    def __init__(self, least: int, values: int) -> None:
        self.least = least
        self.values = min(values, MAX_EXPANDED_VALUES + 1)


class _Walk:
    """One walk through a definition, in the order in which Avro resolves names."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.unsafe: list[str] = []
        self._named: dict[str, tuple[dict[str, Any], str]] = {}
        self._sizes: dict[str, _Size] = {}

    def enter(self, schema: Any) -> None:
        """Collect the faults of a record schema."""
        if not isinstance(schema, dict) or schema.get("type") != "record":
            kind = f"the type {_json(schema.get('type') if isinstance(schema, dict) else schema)}"
            if isinstance(schema, list):
                kind = f"a union of {len(schema)} types"
            self.faults.append(f"not an Avro record schema, but {kind}")
            return
        size = self._size(schema, "", "", 0)
        if size.values > MAX_EXPANDED_VALUES:
            self.unsafe.append(
                f"the record has more than {MAX_EXPANDED_VALUES:,} values, as its types are used"
                " again and again"
            )

    def _size(self, schema: Any, path: str, space: str, depth: int) -> _Size:
        if depth > _MAX_DEPTH:
            self.unsafe.append(f"{path}: nested deeper than {_MAX_DEPTH} types")
            return _Size(1, 1)
        if isinstance(schema, list):
            return self._union(schema, path, space, depth)
        if isinstance(schema, str):
            return self._reference(schema, path, space)
        if not isinstance(schema, dict) or not isinstance(schema.get("type"), str):
            what = schema.get("type") if isinstance(schema, dict) else schema
            self.faults.append(f"{path}: {_json(what)} is not an Avro type")
            return _Size(1, 1)
        kind = schema["type"]
        match kind:
            case "record" | "enum" | "fixed":
                return self._definition(schema, path, space, depth)
            case "array":
                return self._array(schema, path, space, depth)
            case "map":
                if "values" not in schema:
                    self.faults.append(f"{path}: a map without values")
                else:
                    self._size(schema["values"], f"{path}{{}}", space, depth + 1)
                return _Size(1, 1)
        if kind in _PRIMITIVE:
            return _SIZES.get(kind, _ONE)
        self.faults.append(
            f"{path}: {_json({'type': kind})} is not an Avro type"
            + (
                f"; refer to {kind!r} by its name alone"
                if full_name(kind, space) in self._named
                else ""
            )
        )
        return _Size(1, 1)

    def _reference(self, name: str, path: str, space: str) -> _Size:
        if name in _PRIMITIVE:
            return _SIZES.get(name, _ONE)
        full = full_name(name, space)
        if full not in self._named and name in self._named:
            full = name
        if full in self._sizes:
            return self._sizes[full]
        if full in self._named:
            self.unsafe.append(f"{path}: {name!r} contains itself, which no column can hold")
        elif name in ("record", "enum", "fixed", "array", "map"):
            self.faults.append(
                f'{path}: {name!r} needs an object, such as {{"type": {{"type": "{name}", ...}}}}'
            )
        else:
            self.faults.append(
                f"{path}: the type {name!r} is not defined before it in this file; types of other"
                " files are not read, define it here"
            )
        return _Size(1, 1)

    def _union(self, branches: list[Any], path: str, space: str, depth: int) -> _Size:
        seen: set[str] = set()
        size = _Size(1, 1)
        if not branches:
            self.faults.append(f"{path}: a union of no types")
        for branch in branches:
            if isinstance(branch, list):
                self.faults.append(f"{path}: a union directly in a union")
            inner = self._size(branch, path, space, depth + 1)
            size = _Size(1, max(size.values, 1 + inner.values))
            kind = branch if isinstance(branch, str) else None
            if isinstance(branch, dict):
                named = branch.get("type") in NAMED
                kind = branch.get("name") if named else branch.get("type")
            if isinstance(kind, str):
                if kind not in (*_PRIMITIVE, "array", "map"):
                    kind = full_name(kind, space)
                if kind in seen:
                    self.faults.append(f"{path}: the union has {kind!r} twice")
                seen.add(kind)
        return size

    def _array(self, schema: dict[str, Any], path: str, space: str, depth: int) -> _Size:
        if "items" not in schema:
            self.faults.append(f"{path}: an array without items")
            return _ONE
        items = self._size(schema["items"], f"{path}[]", space, depth + 1)
        if items.least == 0:
            self.unsafe.append(
                f"{path}: items without any bytes; a record of a few bytes could have any number"
            )
        return _ONE

    def _definition(self, schema: dict[str, Any], path: str, space: str, depth: int) -> _Size:
        kind, name = schema["type"], schema.get("name")
        here = path or "the record"
        if not isinstance(name, str) or not name:
            self.faults.append(f"{here}: the {kind} has no name")
            name = ""
        inner_space = schema.get("namespace", space)
        full = full_name(name, inner_space if isinstance(inner_space, str) else "")
        inner_space = full.rpartition(".")[0]
        if (
            name
            and (bad := next((p for p in full.split(".") if not _is_name(p)), None)) is not None
        ):
            self._not_a_name(f"{here}: the {kind} {full!r}", bad)
        if full in _PRIMITIVE or full in (*NAMED, "array", "map"):
            self.faults.append(f"{here}: {full!r} is a type of Avro and cannot be a name")
        if full in self._named:
            self.faults.append(
                f"{here}: {full!r} is defined twice, at {self._named[full][1]!r} before; write only"
                " its name here"
            )
        self._named[full] = (schema, here)
        self._check_aliases(schema, here)
        for alias in _texts(schema.get("aliases")):
            if alias is None or not all(_is_name(part) for part in alias.split(".")):
                self._not_a_name(f"{here}: an alias of {full!r}", alias)
        if kind == "enum":
            size = self._enum(schema, here)
        elif kind == "fixed":
            size = self._fixed(schema, here)
        else:
            size = self._record(schema, path, inner_space, depth)
        self._sizes[full] = size
        return size

    def _enum(self, schema: dict[str, Any], here: str) -> _Size:
        symbols = list(_texts(schema.get("symbols")))
        if not isinstance(schema.get("symbols"), list) or not symbols:
            self.faults.append(f"{here}: the enum has no symbols")
        for symbol in symbols:
            if symbol is None or not _is_name(symbol):
                self._not_a_name(f"{here}: a symbol", symbol)
        if len(set(symbols)) < len(symbols):
            self.faults.append(f"{here}: the enum has a symbol twice")
        if "default" in schema and schema["default"] not in symbols:
            self.faults.append(
                f"{here}: the default {_json(schema['default'])} is none of the enum's symbols"
            )
        return _ONE

    def _fixed(self, schema: dict[str, Any], here: str) -> _Size:
        size = schema.get("size")
        if type(size) is not int or size < 0:
            self.faults.append(f"{here}: the fixed type has the size {_json(size)}")
            return _ONE
        return _Size(size, 1)

    def _record(self, schema: dict[str, Any], path: str, space: str, depth: int) -> _Size:
        fields = schema.get("fields")
        if not isinstance(fields, list):
            self.faults.append(f"{path or 'the record'}: the record has no list of fields")
            return _ONE
        least, values = 0, 1
        names: set[str] = set()
        for entry in fields:
            name = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(entry, dict) or not isinstance(name, str):
                self.faults.append(
                    f"{path or 'the record'}: {_json(entry)} is a field without name"
                )
                continue
            inner = join(path, name)
            if not _is_name(name):
                self._not_a_name(f"{inner!r}: the field", name)
            if name in names:
                self.faults.append(f"{inner}: the record has this field twice")
            names.add(name)
            if "type" not in entry:
                self.faults.append(f"{inner}: the field has no type")
                continue
            size = self._size(entry["type"], inner, space, depth + 1)
            least, values = least + size.least, values + size.values
        for entry in fields:
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                self._field(entry, join(path, entry["name"]), names, space)
        return _Size(least, values)

    def _field(self, entry: dict[str, Any], path: str, names: set[str], space: str) -> None:
        if (
            "default" in entry
            and "type" in entry
            and not self._fits(entry["type"], entry["default"], space)
        ):
            self.faults.append(
                f"{path}: the default {_json(entry['default'])} does not fit the type"
                " (of a union: its first branch; bytes and fixed: no default is read back)"
            )
        if entry.get("order", "ascending") not in ("ascending", "descending", "ignore"):
            self.faults.append(
                f"{path}: the order {_json(entry['order'])} is not ascending, descending, ignore"
            )
        self._check_aliases(entry, path)
        for alias in set(_texts(entry.get("aliases"))):
            if alias is None or not _is_name(alias):
                self._not_a_name(f"{path}: an alias", alias)
            elif alias in names - {entry["name"]}:
                self.faults.append(f"{path}: the alias {alias!r} is the name of another field")

    def _fits(self, schema: Any, value: Any, space: str) -> bool:
        """Whether every reader understands a default as its author meant it.

        Stricter than Avro where readers differ: the first branch of a union (Java), complete nested
        records, and no bytes (fastavro returns their JSON text).
        """
        if isinstance(schema, list):
            return bool(schema) and self._fits(schema[0], value, space)
        if isinstance(schema, str) and schema not in _PRIMITIVE:
            full = full_name(schema, space)
            found = self._named.get(full) or self._named.get(schema)
            if found is None:
                return True
            schema = found[0]
            space = full.rpartition(".")[0]
        kind = schema.get("type") if isinstance(schema, dict) else schema
        if not isinstance(kind, str):
            return True
        return _FITS.get(kind, _fits_nothing)(self, schema, value, space)

    def _fits_array(self, schema: dict[str, Any], value: Any, space: str) -> bool:
        return isinstance(value, list) and all(
            self._fits(schema.get("items"), entry, space) for entry in value
        )

    def _fits_map(self, schema: dict[str, Any], value: Any, space: str) -> bool:
        return isinstance(value, dict) and all(
            self._fits(schema.get("values"), entry, space) for entry in value.values()
        )

    def _fits_record(self, schema: dict[str, Any], value: Any, space: str) -> bool:
        inner = full_name(schema.get("name", ""), schema.get("namespace", space))
        return isinstance(value, dict) and all(
            entry["name"] in value
            and self._fits(entry["type"], value[entry["name"]], inner.rpartition(".")[0])
            for entry in schema.get("fields", ())
            if isinstance(entry, dict) and "name" in entry and "type" in entry
        )

    def _check_aliases(self, named: dict[str, Any], path: str) -> None:
        if not isinstance(named.get("aliases", []), list):
            self.faults.append(f"{path}: aliases is {_json(named['aliases'])}, expected a list")

    def _not_a_name(self, what: str, name: object) -> None:
        self.faults.append(
            f"{what} is named {_json(name)}, which is no Avro name: letters, digits and _ only, and"
            " no digit first"
        )


def _fits_nothing(walk: _Walk, schema: Any, value: Any, space: str) -> bool:
    return False


def _whole(bits: int) -> Callable[[_Walk, Any, Any, str], bool]:
    bound = 2 ** (bits - 1)
    return lambda walk, schema, value, space: type(value) is int and -bound <= value < bound


_FITS: Final[dict[str, Callable[[_Walk, Any, Any, str], bool]]] = {
    "null": lambda walk, schema, value, space: value is None,
    "boolean": lambda walk, schema, value, space: isinstance(value, bool),
    "int": _whole(32),
    "long": _whole(64),
    "float": lambda walk, schema, value, space: type(value) in (int, float),
    "double": lambda walk, schema, value, space: type(value) in (int, float),
    "string": lambda walk, schema, value, space: isinstance(value, str),
    "enum": lambda walk, schema, value, space: value in _texts(schema.get("symbols")),
    "array": _Walk._fits_array,
    "map": _Walk._fits_map,
    "record": _Walk._fits_record,
}
_ONE: Final = _Size(1, 1)
_SIZES: Final = {"null": _Size(0, 1), "float": _Size(4, 1), "double": _Size(8, 1)}


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def full_name(name: str, space: str) -> str:
    """A name with its namespace, as Avro resolves it."""
    return f"{space}.{name}" if space and "." not in name else name


def _texts(value: Any) -> Iterator[str | None]:
    """The texts of a list; None for an entry that is none."""
    for entry in value if isinstance(value, list) else ():
        yield entry if isinstance(entry, str) else None


def _json(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
