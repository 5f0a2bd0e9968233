"""The columns of a data product: the fields of its contract's newest Avro version, typed.

A field with a column is a string (also uuid and enum), int, long, float, double, boolean, array of
string or timestamp-millis, alone or in a union with null. A field of any other type has no column
and is left out of the product; `tunemesh schemas check` names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from schemas.model import Contract, Role, split_nullable


class Kind(StrEnum):
    """The type of a column, by its name in the manifest."""

    STRING = "string"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    STRINGS = "list<string>"
    TIMESTAMP = "timestamp-millis"


PUBLISHED_AT: Final = "published_at"
"""A column of interactions beside their contract's: the Kafka timestamp, which separates the events
of a bootstrap from those of the stream."""

EVENT_DAY: Final = "event_day"
"""The partition of interactions: the day, in UTC, on which they occurred."""

OCCURRED_AT: Final = "occurred_at"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name, type, whether it may be null, and the default of an absent value."""

    name: str
    kind: Kind
    nullable: bool
    default: Any = None

    def document(self) -> dict[str, Any]:
        """The column as the manifest has it."""
        return {"name": self.name, "type": str(self.kind), "nullable": self.nullable}


def columns_of(contract: Contract) -> tuple[Column, ...]:
    """The columns of a contract's product, in the order of the Avro fields.

    Interactions have :data:`PUBLISHED_AT` after them. A field whose type no column has is left out.
    """
    columns = tuple(
        column for entry in contract.newest.avro["fields"] if (column := _column(entry)) is not None
    )
    if contract.role is Role.INTERACTION and PUBLISHED_AT not in [c.name for c in columns]:
        columns += (Column(PUBLISHED_AT, Kind.TIMESTAMP, nullable=False),)
    return columns


def partition_of(contract: Contract) -> str | None:
    """The partition column of a product's files; None without partitions."""
    return EVENT_DAY if contract.role is Role.INTERACTION else None


def fields_without_column(contract: Contract) -> tuple[str, ...]:
    """Names of the fields that are left out of a contract's product."""
    return tuple(
        entry["name"] for entry in contract.newest.avro["fields"] if _column(entry) is None
    )


def _column(entry: dict[str, Any]) -> Column | None:
    avro, nullable = split_nullable(entry["type"])
    kind = _kind(avro)
    return None if kind is None else Column(entry["name"], kind, nullable, entry.get("default"))


def _kind(avro: Any) -> Kind | None:
    if isinstance(avro, dict):
        if avro["type"] == "array":
            return Kind.STRINGS if _kind(avro["items"]) is Kind.STRING else None
        logical = avro.get("logicalType")
        if avro["type"] == "enum":
            return Kind.STRING
        if logical is not None and avro["type"] != "string":
            is_millis = logical == "timestamp-millis" and avro["type"] == "long"
            return Kind.TIMESTAMP if is_millis else None
        avro = avro["type"]
    plain = ("string", "int", "long", "float", "double", "boolean")
    return Kind(avro) if isinstance(avro, str) and avro in plain else None
