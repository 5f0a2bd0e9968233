"""Checks of a record that a caller sends: complete, of the contract's types, and publishable.

A record that passes can be encoded and does not become a dead letter: the rules are those of the
decode step, applied before the record is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from fastavro.validation import validate

from schemas import wire
from schemas.codec import Record, encode_body, parse_plain
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, Role, split_nullable
from schemas.records import Interaction
from schemas.rules import (
    MAX_TIMESTAMP_MS,
    MIN_TIMESTAMP_MS,
    check_id,
    check_interaction,
    check_version,
)

UNKNOWN_FIELD = "unknown_field"
MISSING_FIELD = "missing_field"
NOT_JSON = "not_json"


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
        self._defaults = contract.newest.defaults
        self._fields = {
            entry["name"]: _field(entry, plain["type"])
            for entry, plain in zip(
                contract.newest.avro["fields"], self._schema["fields"], strict=True
            )
        }

    def completed(self, given: Any, current: Record | None = None) -> Record:
        """A record with all fields of the contract, each of its type.

        Absent ones get their default, or null where that is allowed. A deleted record needs no more
        than its id: the rest is that of ``current``. Raises InvalidInput.
        """
        if not isinstance(given, Mapping):
            raise InvalidInput(Reason.WRONG_TYPE, "expected a JSON object")
        for name in given:
            if name not in self._fields:
                raise InvalidInput(
                    UNKNOWN_FIELD, f"{self.contract.name} has no such field", str(name)
                )
        is_deletion = (
            current is not None and self.deleted is not None and given.get(self.deleted) is True
        )
        record: Record = {}
        for name, field in self._fields.items():
            if name in given:
                record[name] = _checked(field, given[name])
            elif is_deletion and current is not None and name != self.updated:
                record[name] = current[name]
            elif name in self._defaults:
                record[name] = self._defaults[name]
            else:
                raise InvalidInput(MISSING_FIELD, "is required", name)
        return record

    def check(self, record: Record, now_ms: int) -> None:
        """Raise InvalidInput for a record that no consumer could use, or that is too large."""
        try:
            if self.contract.role is Role.INTERACTION:
                check_interaction(cast("Interaction", record), now_ms)
            else:
                check_id(self.contract.key, record[self.contract.key])
                if self.updated is not None and record[self.updated] is not None:
                    check_version(record[self.updated], now_ms, self.updated)
            size = len(encode_body(self._schema, record)) + wire.HEADER_SIZE
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

    def version(self, record: Record) -> int | None:
        """updated_at of a record; None where the domain has none."""
        version: int | None = record[self.updated] if self.updated else None
        return version


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
            Reason.INVALID_VALUE, f"{value} is no timestamp in milliseconds", field.name
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
