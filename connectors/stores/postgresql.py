"""A domain on PostgreSQL: one row a record, its columns the contract's fields.

Timestamps are ``timestamptz`` (milliseconds), arrays of text ``text[]``; other types are ``jsonb``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from schemas.codec import Record
from schemas.model import Contract, split_nullable
from schemas.timestamps import EPOCH, datetime_ms

_PLAIN = {
    "string": "text",
    "int": "integer",
    "long": "bigint",
    "boolean": "boolean",
    "float": "real",
    "double": "double precision",
}
_TIMESTAMP = "timestamptz"
_JSON = "jsonb"


def quoted(name: str) -> str:
    """An identifier in SQL text."""
    return '"' + name.replace('"', '""') + '"'


class Table:
    """The table of a domain, in the schema that is searched first.

    ``columns`` has the SQL type of each field of the newest version, in its order.
    """

    def __init__(self, contract: Contract) -> None:
        fields = contract.newest.avro["fields"]
        self.name = contract.name.replace("-", "_")
        self.key = contract.key
        self.columns = {entry["name"]: _sql_type(entry["type"]) for entry in fields}
        self._defaults = contract.newest.defaults

    @property
    def column_list(self) -> str:
        """The columns as SQL text, for SELECT and INSERT."""
        return ", ".join(quoted(name) for name in self.columns)

    def statements(self) -> Iterator[str]:
        """SQL that creates the table, or adds the columns of a newer version."""
        table = quoted(self.name)
        key = f"{quoted(self.key)} {self.columns[self.key]} PRIMARY KEY"
        yield f"CREATE TABLE IF NOT EXISTS {table} ({key})"
        for name, sql_type in self.columns.items():
            yield f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {quoted(name)} {sql_type}"

    def to_row(self, record: Mapping[str, Any]) -> tuple[Any, ...]:
        """A record's values, in the order of the columns."""
        return tuple(_to_column(kind, record[name]) for name, kind in self.columns.items())

    def from_row(self, row: Sequence[Any]) -> Record:
        """The record in a row that was selected in the order of the columns.

        A null in a column that was added later stands for the contract's default.
        """
        record: Record = {}
        for (name, sql_type), value in zip(self.columns.items(), row, strict=True):
            plain = _from_column(sql_type, value)
            record[name] = self._defaults.get(name) if plain is None else plain
        return record


def _sql_type(avro: Any) -> str:
    avro, _ = split_nullable(avro)
    if isinstance(avro, Mapping):
        if avro.get("logicalType") == "timestamp-millis":
            return _TIMESTAMP
        if avro["type"] == "array" and avro["items"] == "string":
            return "text[]"
        avro = avro["type"]
    return _PLAIN.get(avro, _JSON) if isinstance(avro, str) else _JSON


def _to_column(sql_type: str, value: Any) -> Any:
    if value is None:
        return None
    if sql_type == _TIMESTAMP:
        return EPOCH + timedelta(milliseconds=value)
    return json.dumps(value) if sql_type == _JSON else value


def _from_column(sql_type: str, value: Any) -> Any:
    if sql_type == _TIMESTAMP and value is not None:
        return datetime_ms(value)
    return value
