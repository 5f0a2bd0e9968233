"""A record of a domain's store as a row of its data product, or why it does not fit.

Pure. Values are those of the store's client: a timestamp may be a datetime or epoch milliseconds, a
whole number may be a Decimal. What fits the contract is converted without loss; everything else is
an :class:`~schemas.invalid.InvalidRecord`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pyarrow as pa

from connectors.products.arrow import arrow_schema
from connectors.products.columns import Column, Kind
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract
from schemas.rules import (
    MAX_TIMESTAMP_MS,
    MIN_TIMESTAMP_MS,
    check_id,
    identifier_fields,
    probable_unit,
)
from schemas.timestamps import datetime_ms

_ABSENT: Final = object()

Row = tuple[Any, ...]
"""The values of a row in the order of the columns; timestamps as epoch milliseconds."""


class RowMaker:
    """Makes rows of the columns of one contract."""

    def __init__(self, contract: Contract, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.schema = arrow_schema(self.columns)
        names = [column.name for column in self.columns]
        self._fields = [(c.name, _CONVERT[c.kind], c.nullable, c.default) for c in self.columns]
        self._ids = [(names.index(name), name) for name in identifier_fields(contract)]
        mapping = contract.item or contract.user
        self._deleted = mapping.deleted if mapping is not None else None
        self._updated = mapping.updated if mapping is not None else None
        self._key = contract.key

    def is_deleted(self, record: Mapping[str, Any]) -> bool:
        """Whether the record says that its user or item is deleted."""
        return self._deleted is not None and record.get(self._deleted) is True

    def deletion(self, record: Mapping[str, Any]) -> tuple[str, int | None] | None:
        """Id and time (epoch ms) of a deleted record; None for one without a usable id."""
        updated = record.get(self._updated) if self._updated else None
        try:
            key = check_id(self._key, _string(record.get(self._key)))
            return key, None if updated is None else _timestamp(updated)
        except InvalidRecord:
            return None

    def row(self, record: Mapping[str, Any]) -> Row:
        """The row of a record.

        A field that the record lacks has the contract's default. Raises InvalidRecord: wrong_type
        with the field and the type of its value, missing_id, invalid_value.
        """
        row: list[Any] = []
        for name, convert, nullable, default in self._fields:
            value = record.get(name, _ABSENT)
            if value is _ABSENT:
                value = default
            if value is None:
                if not nullable:
                    reason = Reason.MISSING_ID if self._is_id(name) else Reason.WRONG_TYPE
                    raise InvalidRecord(
                        reason, f"{name} is {'null' if name in record else 'absent'}"
                    )
                row.append(None)
                continue
            try:
                row.append(convert(value))
            except InvalidRecord as error:
                raise InvalidRecord(error.reason, f"{name}: {error.message}") from None
        for position, name in self._ids:
            check_id(name, row[position])
        return tuple(row)

    def batch(self, rows: Sequence[Row]) -> Any:
        """Rows as a pyarrow RecordBatch."""
        values = zip(*rows, strict=True) if rows else [()] * len(self.columns)
        arrays = [
            pa.array(column_values, type=field.type)
            for field, column_values in zip(self.schema, values, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _is_id(self, name: str) -> bool:
        return any(name == id_name for _, id_name in self._ids)


def _wrong(value: Any, expected: str) -> InvalidRecord:
    return InvalidRecord(Reason.WRONG_TYPE, f"a {type(value).__name__}, expected {expected}")


def _string(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str):
        raise _wrong(value, "a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRecord(Reason.INVALID_VALUE, "has a lone surrogate") from None
    return value


def _whole(bits: int) -> Callable[[Any], int]:
    expected = f"a {bits}-bit integer"
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)

    def convert(value: Any) -> int:
        if type(value) is not int:
            # Numeric columns and DynamoDB numbers: 12.0 is the integer 12, 12.5 is none.
            if not isinstance(value, Decimal) or value != value.to_integral_value():
                raise _wrong(value, expected)
            value = int(value)
        if not low <= value < high:
            raise InvalidRecord(Reason.WRONG_TYPE, f"a number beyond {bits} bits")
        return int(value)

    return convert


def _fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise _wrong(value, "a number")
    number = float(value)
    if not math.isfinite(number):
        raise InvalidRecord(Reason.INVALID_VALUE, "is not a finite number")
    return number


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong(value, "true or false")
    return value


def _strings(value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(value, "a list of strings")
    return [_string(entry) for entry in value]


_long = _whole(64)


def _timestamp(value: Any) -> int:
    if isinstance(value, datetime):
        value = datetime_ms(value)
    timestamp = _long(value)
    if not MIN_TIMESTAMP_MS <= timestamp <= MAX_TIMESTAMP_MS:
        unit = probable_unit(timestamp)
        hint = "" if unit is None else f", probably {unit} instead of milliseconds"
        raise InvalidRecord(Reason.INVALID_VALUE, f"a timestamp beyond the years 1 to 9999{hint}")
    return timestamp


_CONVERT: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.STRING: _string,
    Kind.INT: _whole(32),
    Kind.LONG: _long,
    Kind.FLOAT: _fraction,
    Kind.DOUBLE: _fraction,
    Kind.BOOLEAN: _boolean,
    Kind.STRINGS: _strings,
    Kind.TIMESTAMP: _timestamp,
}
