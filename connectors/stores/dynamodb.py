"""A domain on DynamoDB: one item a record, its attributes the contract's fields.

A field that is null has no attribute. Timestamps are numbers (epoch milliseconds), arrays are
lists: the types of the record as the codec reads it. Source: "Data types" in the DynamoDB developer
guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.codec import Record
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract

TABLE_PREFIX = "tunemesh-"

Attribute = dict[str, Any]
"""A value in DynamoDB's form, such as ``{"S": "text"}``."""


def table_name(contract: Contract) -> str:
    """The table of a domain."""
    return TABLE_PREFIX + contract.name


def table_definition(contract: Contract) -> dict[str, Any]:
    """The arguments of CreateTable: key by the contract's, a stream with new and old images."""
    return {
        "TableName": table_name(contract),
        "AttributeDefinitions": [{"AttributeName": contract.key, "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": contract.key, "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    }


def to_item(record: Mapping[str, Any]) -> dict[str, Attribute]:
    """A record as an item."""
    return {name: to_attribute(value) for name, value in record.items() if value is not None}


class ItemReader:
    """Reads items of a domain's table as records."""

    def __init__(self, contract: Contract) -> None:
        defaults = contract.newest.defaults
        self._defaults = {name: defaults.get(name) for name in contract.newest.field_names}

    def __call__(self, item: Mapping[str, Attribute]) -> Record:
        """The record in an item: the newest version's fields, absent ones null or their default.

        Attributes beside the contract's fields are left out. Raises InvalidRecord(wrong_type).
        """
        return {
            name: from_attribute(item[name], name) if name in item else default
            for name, default in self._defaults.items()
        }


def to_attribute(value: Any) -> Attribute:
    """A value as an attribute."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, float)):
        return {"N": repr(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, Mapping):
        return {"M": {str(name): to_attribute(inner) for name, inner in value.items()}}
    return {"L": [to_attribute(inner) for inner in value]}


def from_item(item: Mapping[str, Attribute]) -> Record:
    """The values of an item by name; raises InvalidRecord(wrong_type) naming the attribute."""
    return {name: from_attribute(attribute, name) for name, attribute in item.items()}


def from_attribute(attribute: Attribute, name: str) -> Any:
    """The value in an attribute; a set of strings is a sorted list.

    Raises InvalidRecord(wrong_type), which names the attribute, for a type that no field has.
    """
    try:
        ((kind, value),) = attribute.items()
        match kind:
            case "S" | "BOOL":
                return value
            case "N":
                return int(value) if value.lstrip("-").isdigit() else float(value)
            case "NULL":
                return None
            case "L":
                return [from_attribute(inner, name) for inner in value]
            case "SS":
                return sorted(value)
            case "M":
                return from_item(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidRecord(Reason.WRONG_TYPE, f"{name}: not an attribute value", name) from error
    raise InvalidRecord(
        Reason.WRONG_TYPE, f"{name}: an attribute of type {kind}, which no field has", name
    )
