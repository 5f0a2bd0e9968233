"""Checks of a record that a caller sends: complete, of the contract's types, and publishable.

A record that passes can be encoded and does not become a dead letter: the rules are those of the
decode step, applied before the record is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from fastavro.validation import validate

from schemas.codec import Encoder, Record, parse_plain
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, Role, split_nullable
from schemas.records import Interaction
from schemas.rules import (
    MAX_TIMESTAMP_MS,
    MIN_TIMESTAMP_MS,
    check_dimension,
    check_id,
    check_interaction,
    probable_unit,
)

UNKNOWN_FIELD = "unknown_field"
MISSING_FIELD = "missing_field"
NOT_JSON = "not_json"


_EMPTY: Mapping[str, Any] = {
    "null": None,
    "boolean": False,
    "int": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "string": "",
    "bytes": b"",
}
"""The empty values of the types that have no parts."""


class InvalidInput(Exception):
    """A caller sent invalid input: reason (machine-readable), message, and field."""

    def __init__(self, reason: str, message: str, field: str | None = None) -> None:
        super().__init__(reason, message, field)
        self.reason = reason
        self.message = message
        self.field = field


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    schema: Any
    expected: str
    timestamp: bool


class Rules:
    """The rules of a contract for the back end of its domain. Pure."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        mapping = contract.item or contract.user
        self.updated = mapping.updated if mapping else None
        self.deleted = mapping.deleted if mapping else None
        self._schema = parse_plain(contract.newest.definition)
        self._encoder = Encoder(contract, UUID(int=0))
        self._defaults = contract.newest.defaults
        erased = _erased(self._schema, {})
        for kept in (contract.key, self.updated, self.deleted):
            erased.pop(kept, None)
        self._erased: Record = erased
        self._fields = {
            entry["name"]: _field(entry, plain["type"])
            for entry, plain in zip(
                contract.newest.avro["fields"], self._schema["fields"], strict=True
            )
        }

    def completed(self, given: Any) -> Record:
        """A record with all fields of the contract, each of its type.

        Absent ones get their default, or null where that is allowed. A deleted record needs no more
        than its id: the rest is erased. Raises InvalidInput.
        """
        if not isinstance(given, Mapping):
            raise InvalidInput(Reason.WRONG_TYPE, "expected a JSON object")
        for name in given:
            if name not in self._fields:
                raise InvalidInput(
                    UNKNOWN_FIELD, f"{self.contract.name} has no such field", str(name)
                )
        is_deletion = self.deleted is not None and given.get(self.deleted) is True
        record: Record = {}
        for name, field in self._fields.items():
            if name in given:
                record[name] = _checked(field, given[name])
            elif name in self._defaults:
                record[name] = self._defaults[name]
            elif not (is_deletion and name in self._erased):
                raise InvalidInput(MISSING_FIELD, "is required", name)
        return self.erased(record) if is_deletion else record

    def erased(self, record: Record) -> Record:
        """A record without its content: id, version and the mark of its deletion remain.

        Every other field is null; where that is not allowed, its default, else the empty value of
        its type.
        """
        return {**record, **self._erased}

    def check(self, record: Record, now_ms: int) -> None:
        """Raise InvalidInput for a record that no consumer could use, or that is too large."""
        try:
            if self.contract.role is Role.INTERACTION:
                check_interaction(cast("Interaction", record), now_ms)
            else:
                check_id(self.contract.key, record[self.contract.key])
                check_dimension(self.contract, record, now_ms)
            size = len(self._encoder.encode(record))
        except InvalidRecord as error:
            raise InvalidInput(error.reason, error.message, error.field) from None
        if size > self.contract.max_bytes:
            raise InvalidInput(
                Reason.OVERSIZE,
                f"{size} bytes, {self.contract.name} allows {self.contract.max_bytes} a record",
            )

    def check_id(self, key: Any) -> str:
        """Return the id of a record; raise InvalidInput for an invalid one."""
        name = self.contract.key
        if not isinstance(key, str):
            raise InvalidInput(Reason.WRONG_TYPE, f"{key!r:.100} is not string", name)
        if problem := _text_problem(key):
            raise InvalidInput(Reason.INVALID_VALUE, problem, name)
        try:
            return check_id(name, key)
        except InvalidRecord as error:
            raise InvalidInput(error.reason, error.message, error.field) from None

    def is_deleted(self, record: Record) -> bool:
        """Whether the record says that its user or item is deleted."""
        return self.deleted is not None and bool(record[self.deleted])

    def is_erased(self, record: Record) -> bool:
        """Whether it is deleted and has no content; earlier releases kept the content."""
        return self.is_deleted(record) and record == self.erased(record)

    def version(self, record: Record) -> int | None:
        """updated_at of a record; None where the domain has none."""
        version: int | None = record[self.updated] if self.updated else None
        return version


def _erased(plain: Any, named: dict[str, Any], default: Any = None) -> Any:
    """The value that stands for an erased one of an Avro type (parsed, without logical types)."""
    if isinstance(plain, list) and "null" in plain:
        return None
    if default is not None:
        return default
    if isinstance(plain, list):
        return _erased(plain[0], named)
    if isinstance(plain, str):
        return _EMPTY[plain] if plain in _EMPTY else _erased(named[plain], named)
    named[plain.get("name", "")] = plain
    match plain["type"]:
        case "array":
            return []
        case "map":
            return {}
        case "enum":
            return plain["symbols"][0]
        case "fixed":
            return bytes(plain["size"])
        case "record":
            return {
                field["name"]: _erased(field["type"], named, field.get("default"))
                for field in plain["fields"]
            }
    return _erased(plain["type"], named)


def _field(entry: Mapping[str, Any], plain: Any) -> _Field:
    avro, _ = split_nullable(entry["type"])
    return _Field(
        name=entry["name"],
        schema=plain,
        expected=_described(plain),
        timestamp=isinstance(avro, dict) and avro.get("logicalType") == "timestamp-millis",
    )


def _checked(field: _Field, value: Any) -> Any:
    if not validate(value, field.schema, raise_errors=False):
        raise InvalidInput(Reason.WRONG_TYPE, f"{value!r:.100} is not {field.expected}", field.name)
    if field.timestamp and value is not None and not MIN_TIMESTAMP_MS <= value <= MAX_TIMESTAMP_MS:
        raise InvalidInput(
            Reason.INVALID_VALUE,
            f"{value} is no timestamp in milliseconds"
            + (f", but probably in {unit}" if (unit := probable_unit(value)) else ""),
            field.name,
        )
    if problem := _text_problem(value):
        raise InvalidInput(Reason.INVALID_VALUE, problem, field.name)
    return value


def _text_problem(value: Any) -> str | None:
    """The fault of a text, or of one inside a value, that no store can keep; else None."""
    if isinstance(value, str):
        if "\x00" in value:
            return "has a NUL character"
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return "has half a surrogate pair"
        return None
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return next((problem for inner in value if (problem := _text_problem(inner))), None)
    return None


def _described(plain: Any) -> str:
    """An Avro type in words."""
    if isinstance(plain, list):
        return " or ".join(_described(branch) for branch in plain)
    if isinstance(plain, Mapping):
        if plain["type"] == "array":
            return f"array of {_described(plain['items'])}"
        return _described(plain["type"])
    return str(plain)
