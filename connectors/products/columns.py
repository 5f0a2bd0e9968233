"""The columns of a data product: the fields of its contract's newest Avro version, typed.

A field is a string, int, long, float, double, boolean, array of string or timestamp-millis, alone
or in a union with null. Anything else has no column; the contract that has it cannot be exported.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from schemas.model import Contract, ContractError, Role, split_nullable


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

    Interactions have :data:`PUBLISHED_AT` after them. Raises ContractError for a field whose type
    no column has.
    """
    columns = tuple(_column(contract, entry) for entry in contract.newest.avro["fields"])
    if contract.role is Role.INTERACTION and PUBLISHED_AT not in [c.name for c in columns]:
        columns += (Column(PUBLISHED_AT, Kind.TIMESTAMP, nullable=False),)
    return columns


def partition_of(contract: Contract) -> str | None:
    """The partition column of a product's files; None without partitions."""
    return EVENT_DAY if contract.role is Role.INTERACTION else None


def _column(contract: Contract, entry: dict[str, Any]) -> Column:
    avro, nullable = split_nullable(entry["type"])
    kind = _kind(avro)
    if kind is None:
        raise ContractError(
            f"{contract.name}.v{contract.newest.number}.avsc: the field {entry['name']!r} has a"
            f" type that no column of a data product has; there are: {', '.join(Kind)}"
        )
    return Column(entry["name"], kind, nullable, entry.get("default"))


def _kind(avro: Any) -> Kind | None:
    if isinstance(avro, dict):
        logical = avro.get("logicalType")
        if logical is not None:
            is_millis = logical == "timestamp-millis" and avro["type"] == "long"
            return Kind.TIMESTAMP if is_millis else None
        if avro["type"] == "array":
            return Kind.STRINGS if _kind(avro["items"]) is Kind.STRING else None
        avro = avro["type"]
    plain = ("string", "int", "long", "float", "double", "boolean")
    return Kind(avro) if isinstance(avro, str) and avro in plain else None
