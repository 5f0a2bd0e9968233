"""Decides whether a schema version may follow the versions before it.

AWS Glue has its own check, moto accepts everything, and neither finds what would break this
project's decoder. So this check comes first: the rules of Avro's schema resolution
(``avro.compatibility`` decides on types), and a few faults that it does not find:

- a changed logical type (milliseconds to microseconds resolve, and every value is wrong);
- defaults that do not fit their field (``avro`` accepts them, readers fail on the first record);
- bytes read as string, which Avro allows and which fails for bytes that are not UTF-8;
- an alias that is the name of another field, and a union whose branch hides a later one.

Each fault names its field, which ``avro.compatibility`` does not inside unions.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, cast

import avro.errors
import avro.schema
from avro.compatibility import (
    ReaderWriterCompatibilityChecker,
    SchemaCompatibilityType,
    lookup_writer_field,
    schema_name_equals,
)

from schemas.definitions import NAMED, definition_faults, full_name, join
from schemas.model import COMPATIBILITY_MODES

_NO_DEFAULT = "has no default and is not written by"


def incompatibilities(mode: str, candidate: str, former: Sequence[str]) -> list[str]:
    """Why a schema cannot become the next version; empty when it can.

    ``candidate`` and ``former`` (oldest first: versions 1, 2, ...) are Avro definitions as JSON
    text. Each entry names the field, the reason, and which version could not read which.
    Raises ValueError for an unknown mode.
    """
    if mode not in COMPATIBILITY_MODES:
        raise ValueError(
            f"compatibility {mode!r}, expected one of {', '.join(COMPATIBILITY_MODES)}"
        )
    faults = definition_faults(candidate)
    if faults:
        return faults
    try:
        new = _parse_record(candidate)
    except ValueError as error:
        return [str(error)]
    if mode == "NONE":
        return []
    first = 0 if mode.endswith("_ALL") else len(former) - 1
    for number, definition in enumerate(former[first:], start=first + 1):
        try:
            old = _parse_record(definition)
        except ValueError as error:
            faults.append(f"version {number}: {error}")
            continue
        if mode.startswith(("BACKWARD", "FULL")):
            faults += (
                f"{fault} (the new version could not read version {number})"
                for fault in _unreadable(new, old, f"version {number}")
            )
        if mode.startswith(("FORWARD", "FULL")):
            faults += (
                f"{fault} (version {number} could not read the new version)"
                for fault in _unreadable(old, new, "the new version")
            )
    return faults


def _parse_record(definition: str) -> avro.schema.Schema:
    try:
        with warnings.catch_warnings():
            # Of logical types that do not fit their type: Avro says to ignore these.
            warnings.simplefilter("ignore", avro.errors.IgnoredLogicalType)
            schema = avro.schema.parse(json.dumps(_with_full_aliases(json.loads(definition), "")))
    except (avro.errors.AvroException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an Avro schema: {error}") from error
    if schema.type != "record":
        raise ValueError(f"an Avro {schema.type}, expected a record")
    return schema


def _with_full_aliases(schema: Any, space: str) -> Any:
    """A definition with the full names of its types' aliases, which ``avro`` compares as written.

    An alias without a namespace is in that of its type ("Aliases" in Avro's specification).
    """
    if isinstance(schema, list):
        return [_with_full_aliases(branch, space) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    schema = dict(schema)
    if schema.get("type") in NAMED:
        name = schema.get("name", "")
        space = name.rpartition(".")[0] or schema.get("namespace", space)
        if aliases := schema.get("aliases"):
            schema["aliases"] = [full_name(alias, space) for alias in aliases]
        if fields := schema.get("fields"):
            schema["fields"] = [
                {**entry, "type": _with_full_aliases(entry["type"], space)} for entry in fields
            ]
    for part in ("items", "values"):
        if part in schema:
            schema[part] = _with_full_aliases(schema[part], space)
    return schema


# Resolution: what one schema can read of what another has written.


def _unreadable(
    reader: avro.schema.Schema, writer: avro.schema.Schema, writer_name: str
) -> list[str]:
    faults = list(_Resolution(writer_name).faults(reader, writer, ""))
    if not faults:
        verdict = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
        if verdict.compatibility is not SchemaCompatibilityType.compatible:
            locations = ", ".join(sorted(verdict.locations))
            faults.append(f"{locations}: {'; '.join(sorted(verdict.messages))}")
    return faults


class _Resolution:
    """One walk through a reader and a writer schema side by side."""

    def __init__(self, writer_name: str) -> None:
        self._writer_name = writer_name
        self._seen: set[tuple[int, int]] = set()

    def faults(
        self, reader: avro.schema.Schema, writer: avro.schema.Schema, path: str
    ) -> Iterator[str]:
        """Each place where the reader could not read what the writer writes."""
        if reader.type == "union" or writer.type == "union":
            yield from self._union(_branches(reader), _branches(writer), path)
        elif reader.type != writer.type:
            if not _promotable(reader, writer):
                yield f"{path}: {_name(reader)} does not read {_name(writer)}"
            yield from _meaning(reader, writer, path)
        elif reader.type in NAMED and not schema_name_equals(
            cast(avro.schema.NamedSchema, reader), cast(avro.schema.NamedSchema, writer)
        ):
            yield (
                f"{path or 'the record'}: is named {_name(reader)},"
                f" {self._writer_name} names it {_full_name(writer)}"
            )
        else:
            yield from _meaning(reader, writer, path)
            yield from self._same_type(reader, writer, path)

    def _same_type(
        self, reader: avro.schema.Schema, writer: avro.schema.Schema, path: str
    ) -> Iterator[str]:
        if isinstance(reader, avro.schema.RecordSchema):
            # A schema that contains itself: a caller is comparing this pair already.
            if (id(reader), id(writer)) not in self._seen:
                self._seen.add((id(reader), id(writer)))
                yield from self._record(reader, cast(avro.schema.RecordSchema, writer), path)
        elif isinstance(reader, avro.schema.ArraySchema):
            items = cast(avro.schema.ArraySchema, writer).items
            yield from self.faults(reader.items, items, f"{path}[]")
        elif isinstance(reader, avro.schema.MapSchema):
            values = cast(avro.schema.MapSchema, writer).values
            yield from self.faults(reader.values, values, f"{path}{{}}")
        elif isinstance(reader, avro.schema.EnumSchema):
            missing = [
                symbol
                for symbol in cast(avro.schema.EnumSchema, writer).symbols
                if symbol not in reader.symbols
            ]
            if missing and reader.props.get("default") not in reader.symbols:
                yield f"{path}: the enum {_name(reader)} lacks {', '.join(missing)}"
        elif isinstance(reader, avro.schema.FixedSchema):
            size = cast(avro.schema.FixedSchema, writer).size
            if reader.size != size:
                yield f"{path}: {reader.size} bytes instead of {size}"

    def _record(
        self, reader: avro.schema.RecordSchema, writer: avro.schema.RecordSchema, path: str
    ) -> Iterator[str]:
        for reader_field in reader.fields:
            inner = join(path, reader_field.name)
            writer_field = lookup_writer_field(writer, reader_field)
            if writer_field is not None:
                yield from self.faults(reader_field.type, writer_field.type, inner)
            elif not reader_field.has_default:
                yield f"{inner}: {_NO_DEFAULT} {self._writer_name}"

    def _union(
        self,
        readers: Sequence[avro.schema.Schema],
        writers: Sequence[avro.schema.Schema],
        path: str,
    ) -> Iterator[str]:
        for written in writers:
            taken = next((b for b in readers if b.type == written.type or _reads(b, written)), None)
            if taken and taken.type != written.type and written.type in {b.type for b in readers}:
                # fastavro takes the first branch that fits, not the one of the same type.
                yield f"{path}: {_name(written)} would be read as {_name(taken)}, put it before"
                continue
            if any(not self._apart(branch, written, path) for branch in readers):
                continue
            alike = [branch for branch in readers if branch.type == written.type]
            if len(alike) == 1:
                yield from self._apart(alike[0], written, path)
            else:
                names = ", ".join(_name(branch) for branch in readers)
                yield f"{path}: {_name(written)} is not among what is read ({names})"

    def _apart(
        self, reader: avro.schema.Schema, writer: avro.schema.Schema, path: str
    ) -> list[str]:
        """Faults of one branch of a union, whose pairs do not count as seen for the next branch."""
        walk = _Resolution(self._writer_name)
        walk._seen = set(self._seen)
        return list(walk.faults(reader, writer, path))


def _branches(schema: avro.schema.Schema) -> Sequence[avro.schema.Schema]:
    if isinstance(schema, avro.schema.UnionSchema):
        return cast(Sequence[avro.schema.Schema], schema.schemas)
    return (schema,)


def _promotable(reader: avro.schema.Schema, writer: avro.schema.Schema) -> bool:
    """Whether Avro promotes the types, bytes to string excepted."""
    return (reader.type, writer.type) != ("string", "bytes") and _reads(reader, writer)


def _reads(reader: avro.schema.Schema, writer: avro.schema.Schema) -> bool:
    verdict = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
    return bool(verdict.compatibility is SchemaCompatibilityType.compatible)


def _meaning(reader: avro.schema.Schema, writer: avro.schema.Schema, path: str) -> Iterator[str]:
    """A change of logical type; adding or dropping one changes no value's meaning."""
    before, after = _logical(writer), _logical(reader)
    if before is not None and after is not None and before != after:
        yield f"{path}: {after} instead of {before}, the same values would mean something else"


def _logical(schema: avro.schema.Schema) -> str | None:
    kind = schema.props.get("logicalType") or schema.other_props.get("logicalType")
    if kind == "decimal":
        return f"decimal({schema.props.get('precision')}, {schema.props.get('scale', 0)})"
    return cast("str | None", kind)


def _name(schema: avro.schema.Schema) -> str:
    return str(schema.props.get("name") or schema.type)


def _full_name(schema: avro.schema.Schema) -> str:
    return str(cast(avro.schema.NamedSchema, schema).fullname)
