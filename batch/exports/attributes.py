"""DynamoDB's form of values, as calls and export files have it: ``{"S": "text"}``."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from schemas.invalid import InvalidRecord, Reason


def plain_record(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An item as a mapping of plain values; raises InvalidRecord(wrong_type) for what has none.

    Numbers are int where they are whole and Decimal else; a set of strings is a sorted list.
    """
    return {name: plain_value(name, value) for name, value in item.items()}


def plain_value(name: str, typed: Mapping[str, Any]) -> Any:
    """One attribute's value."""
    try:
        ((kind, value),) = typed.items()
        match kind:
            case "S" | "BOOL":
                return value
            case "N":
                return _number(value)
            case "NULL":
                return None
            case "L":
                return [plain_value(name, one) for one in value]
            case "SS":
                return sorted(value)
            case "M":
                return {key: plain_value(key, one) for key, one in value.items()}
    except (ValueError, TypeError, AttributeError, InvalidOperation) as error:
        raise InvalidRecord(Reason.WRONG_TYPE, f"{name}: not an attribute value") from error
    raise InvalidRecord(
        Reason.WRONG_TYPE, f"{name}: an attribute of type {kind}, which no field has"
    )


def _number(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:
        return Decimal(text)
