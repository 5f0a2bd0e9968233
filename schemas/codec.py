"""Records to bytes and back, with every fault as an :class:`~schemas.invalid.InvalidRecord`.

Timestamps are read as milliseconds since the epoch (``int``), not as ``datetime``: the hot path
compares them and writes them out again, nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from uuid import UUID

import fastavro
from fastavro.schema import SchemaParseException, UnknownType
from fastavro.types import Schema

from schemas import wire
from schemas.binary import compile_reader
from schemas.definitions import unsafe_parts
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, split_nullable

Record = dict[str, Any]
_Fault = Callable[[Any], str | None]


class UnknownSchemaId(Exception):
    """The registry has no schema version of that id; the text says why, where it is known."""


class LostSchema(TunemeshError):
    """A version is gone from the registry, and its record can be read in several ways."""


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """Subject and Avro definition of a registered schema version."""

    subject: str
    definition: str


class SchemaLookup(Protocol):
    """Finds a schema version by its 16-byte id; blocks while the registry cannot be reached."""

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        """The schema version of that id; raises UnknownSchemaId when there is none."""

    def has_lost(self, contract: Contract, published_ms: float) -> bool:
        """Whether a version of the contract's that existed at that time may be gone by now."""
        return False


class VersionIds(Protocol):
    """Finds the id of a registered schema version; the registry client does."""

    def version_id(self, contract: Contract) -> UUID:
        """The id of the contract's newest schema version; blocks."""


def parse_plain(definition: Mapping[str, Any] | str) -> Schema:
    """Parse an Avro schema without its logical types, so that timestamps stay ``int``."""
    return fastavro.schema.parse_schema(_without_logical_types(_load(definition)), named_schemas={})


def _load(definition: Mapping[str, Any] | str) -> Any:
    if isinstance(definition, str):
        return json.loads(definition)
    return definition


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {
            key: _without_logical_types(value)
            for key, value in schema.items()
            if key != "logicalType"
        }
    if isinstance(schema, list):
        return [_without_logical_types(branch) for branch in schema]
    return schema


def encode_body(schema: Schema, record: Mapping[str, Any]) -> bytes:
    """The Avro body of a record; raises InvalidRecord(wrong_type) when it does not fit."""
    stream = io.BytesIO()
    try:
        fastavro.schemaless_writer(stream, schema, record, strict_allow_default=True)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InvalidRecord(Reason.WRONG_TYPE, f"{type(error).__name__}: {error}") from error
    return stream.getvalue()


def decode_body(schema: Schema, body: bytes) -> Record:
    """The record of an Avro body that was written by the same schema."""
    record: Record = fastavro.schemaless_reader(io.BytesIO(body), schema, None)
    return record


@dataclass(slots=True)
class _Writer:
    """A writer schema as the decoder uses it; ``newest``: the body is what the reader expects."""

    schema: Schema
    read: Callable[[bytes], Any]
    newest: bool


class Decoder:
    """Decodes the values of one topic to records of the contract's newest schema version."""

    def __init__(self, contract: Contract, lookup: SchemaLookup) -> None:
        self.contract = contract
        self.schema = parse_plain(contract.newest.definition)
        self._lookup = lookup
        self._writers: dict[bytes, _Writer] = {}

    def decode(self, value: bytes | None, published_ms: float = math.inf) -> Record:
        """The record in a value; ``published_ms``: its Kafka timestamp, if it is known.

        A record whose schema version the registry has lost is read with that of the contract's own
        versions that fits it; raises LostSchema when several do, and read it differently.

        Raises InvalidRecord with the reason: a header fault (see :func:`schemas.wire.unframe`),
        ``unknown_schema_id``, ``wrong_schema`` (a schema of another contract),
        ``truncated_body``, ``trailing_bytes``, ``wrong_type``, ``oversize``.
        """
        return self.decode_with_body(value, published_ms)[0]

    def decode_with_body(
        self, value: bytes | None, published_ms: float = math.inf
    ) -> tuple[Record, bytes]:
        """The record, and its Avro body as the newest schema version writes it."""
        if value is None:
            raise InvalidRecord(Reason.EMPTY_VALUE, "the record has no value")
        if len(value) > self.contract.max_bytes:
            raise InvalidRecord(
                Reason.OVERSIZE,
                f"{len(value)} bytes, the contract {self.contract.name} allows"
                f" {self.contract.max_bytes}",
            )
        version_id, body = wire.unframe(value, self.contract.max_bytes)
        writer = self._writers.get(version_id) or self._writer(version_id, body, published_ms)
        return self._read(writer, body)

    def _read(self, writer: _Writer, body: bytes) -> tuple[Record, bytes]:
        # Also of a schema that is resolved: fastavro reads more than Avro allows.
        record: Record = writer.read(body)
        if writer.newest:
            return record, body
        try:
            record = fastavro.schemaless_reader(io.BytesIO(body), writer.schema, self.schema)
        except fastavro.read.SchemaResolutionError as error:
            raise InvalidRecord(
                Reason.WRONG_TYPE, _resolution_fault(writer.schema, self.schema, error)
            ) from error
        except (EOFError, IndexError, ValueError, TypeError, KeyError) as error:
            raise InvalidRecord(Reason.WRONG_TYPE, f"{type(error).__name__}: {error}") from error
        return record, encode_body(self.schema, record)

    def is_newest(self, value: bytes) -> bool:
        """Whether the body of a value that was decoded is, uncompressed, of the newest version."""
        writer = self._writers.get(value[2 : wire.HEADER_SIZE])
        return writer is not None and writer.newest and value[1] == wire.UNCOMPRESSED

    def _writer(self, version_id: bytes, body: bytes, published_ms: float) -> _Writer:
        try:
            registered = self._lookup.by_id(version_id)
        except UnknownSchemaId as error:
            if self._lookup.has_lost(self.contract, published_ms):
                return self._lost_writer(version_id, body)
            why = f": {error}" if str(error) else ""
            raise InvalidRecord(
                Reason.UNKNOWN_SCHEMA_ID,
                f"the registry has no schema version {UUID(bytes=version_id)}{why}",
            ) from None
        if registered.subject != self.contract.subject:
            raise InvalidRecord(
                Reason.WRONG_SCHEMA,
                f"schema version {UUID(bytes=version_id)} is of {registered.subject!r},"
                f" this topic carries {self.contract.subject!r}",
            )
        try:
            definition = json.loads(registered.definition)
            if unsafe := unsafe_parts(definition):
                raise InvalidRecord(
                    Reason.WRONG_SCHEMA,
                    f"schema version {UUID(bytes=version_id)} cannot be read safely: {unsafe[0]}",
                )
            writer = self._parsed(definition)
        except (
            RecursionError,
            SchemaParseException,
            UnknownType,
            ValueError,
            KeyError,
            TypeError,
        ) as error:
            # Of a registry that does not check definitions: no record of it can ever be read.
            raise InvalidRecord(
                Reason.WRONG_SCHEMA,
                f"schema version {UUID(bytes=version_id)} is not an Avro schema: {error}",
            ) from error
        self._writers[version_id] = writer
        return writer

    def _parsed(self, definition: Mapping[str, Any]) -> _Writer:
        schema = parse_plain(definition)
        return _Writer(schema, compile_reader(schema), newest=_same_bytes(schema, self.schema))

    @cached_property
    def _own_writers(self) -> dict[int, _Writer]:
        return {version.number: self._parsed(version.avro) for version in self.contract.versions}

    def _lost_writer(self, version_id: bytes, body: bytes) -> _Writer:
        """The writer schema of a record whose version is gone: the contract's that fits its body.

        Decided for each record, since a wrong guess would concern all records with that id.
        """
        fitting: dict[bytes, int] = {}
        for number, writer in self._own_writers.items():
            with contextlib.suppress(InvalidRecord):
                fitting.setdefault(self._read(writer, body)[1], number)
        numbers = sorted(fitting.values())
        if not numbers:
            raise InvalidRecord(
                Reason.UNKNOWN_SCHEMA_ID,
                f"the registry has no schema version {UUID(bytes=version_id)}, and no version of"
                f" {self.contract.name} fits the record",
            )
        if len(numbers) > 1:
            names = [f"{self.contract.name}.v{number}" for number in numbers]
            raise LostSchema(
                f"schema version {UUID(bytes=version_id)} of {self.contract.name} is gone from the"
                f" registry, and a record that was written with it can be read as"
                f" {' and as '.join(names)}. Name the right one in the property 'versions' of the"
                f" group 'tunemesh.registry', such as {UUID(bytes=version_id)}={names[0]}"
            )
        return self._own_writers[numbers[0]]


class Encoder:
    """Encodes records of one contract as values with a registry header."""

    def __init__(self, contract: Contract, version_id: UUID, version: int | None = None) -> None:
        chosen = contract.newest if version is None else contract.versions[version - 1]
        self._schema = parse_plain(chosen.definition)
        # fastavro writes True for "no", 1 for 1.5, any long as an int and the characters of a
        # string as an array; a producer must not.
        self._fault = _value_fault(
            self._schema,
            {
                "int": _int_fault,
                "long": _long_fault,
                "boolean": _boolean_fault,
                "array": _array_fault,
            },
        )
        self._version_id = version_id

    def encode(self, record: Mapping[str, Any], *, compress: bool = False) -> bytes:
        """A record's value; raises InvalidRecord(wrong_type) when it does not fit the schema."""
        if self._fault is not None and (fault := self._fault(record)) is not None:
            raise InvalidRecord(Reason.WRONG_TYPE, fault)
        return wire.frame(self._version_id, encode_body(self._schema, record), compress=compress)


def _int_fault(value: Any) -> str | None:
    if type(value) is int and -(2**31) <= value < 2**31:
        return None
    return f"{value!r:.100} is not a 32-bit integer"


def _long_fault(value: Any) -> str | None:
    if type(value) is int and -(2**63) <= value < 2**63:
        return None
    return f"{value!r:.100} is not a 64-bit integer"


def _boolean_fault(value: Any) -> str | None:
    return None if type(value) is bool else f"{value!r:.100} is not true or false"


def _array_fault(value: Any) -> str | None:
    return None if isinstance(value, (list, tuple)) else f"{value!r:.100} is not an array"


def _value_fault(schema: Any, faults: Mapping[str, _Fault]) -> _Fault | None:
    """A check for the first value that one of ``faults`` (by Avro type) rejects.

    None when the schema has no such type. fastavro itself rejects values of another shape than the
    schema; unions with several branches beside null are not checked.
    """
    if isinstance(schema, str):
        return faults.get(schema)
    if isinstance(schema, list):
        branch, _ = split_nullable(schema)
        inner = None if isinstance(branch, list) else _value_fault(branch, faults)
        return None if inner is None else _nullable_fault(inner)
    if schema["type"] == "record":
        checks = [
            (entry["name"], inner)
            for entry in schema["fields"]
            if (inner := _value_fault(entry["type"], faults)) is not None
        ]
        return _fields_fault(checks) if checks else None
    if schema["type"] in ("array", "map"):
        inner = _value_fault(schema["items" if schema["type"] == "array" else "values"], faults)
        return _entries_fault(faults.get(schema["type"]), inner)
    return faults.get(schema["type"])


def _nullable_fault(check: _Fault) -> _Fault:
    return lambda value: None if value is None else check(value)


def _fields_fault(checks: list[tuple[str, _Fault]]) -> _Fault:
    def fault(value: Any) -> str | None:
        if isinstance(value, dict):
            for name, check in checks:
                # A missing field takes its default, or fastavro rejects the record.
                if name in value and (problem := check(value[name])) is not None:
                    return f"{name}: {problem}"
        return None

    return fault


def _entries_fault(container: _Fault | None, entry: _Fault | None) -> _Fault | None:
    if container is None and entry is None:
        return None

    def fault(value: Any) -> str | None:
        if container is not None and (problem := container(value)) is not None:
            return problem
        entries = value.values() if isinstance(value, dict) else value
        if entry is None or not isinstance(entries, Iterable):
            return None
        return next((p for inner in entries if (p := entry(inner)) is not None), None)

    return fault


def _resolution_fault(writer: Schema, reader: Schema, error: Exception) -> str:
    """Why a record of one schema is none of another; fastavro's message is both schemas."""
    written, read = (schema.get("name") for schema in (writer, reader))
    if str(written).rpartition(".")[2] != str(read).rpartition(".")[2]:
        return (
            f"the record was written as {written}, the contract's record is {read}; give it the"
            f" alias {written!r} in the newest .avsc file"
        )
    return f"what {written} has written is not what the contract reads: {error!s:.160}"


def _same_bytes(writer: Schema, reader: Schema) -> bool:
    """Whether both schemas write a record as the same bytes (names and order of the fields)."""
    same: bool = _shape(writer) == _shape(reader)
    return same


def _shape(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        kept = ("type", "fields", "items", "values", "symbols", "size")
        shape = {key: _shape(schema[key]) for key in kept if key in schema}
        if "name" in schema and "fields" not in schema:
            shape["name"] = schema["name"]
        return shape
    if isinstance(schema, list):
        return [_shape(entry) for entry in schema]
    return schema
