"""The three Personalize schemas, derived from the contracts.

The same fields as the stream sends with PutUsers, PutItems and PutEvents, in the spelling of a
schema: `ageBand` there is `AGE_BAND` here. The order of the fields is that of the CSV columns.
Rules are those of "Creating schema JSON files" in the Amazon Personalize developer guide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from connectors.personalize.datasets import (
    ITEMS,
    USERS,
    Dataset,
    DatasetField,
    FieldKind,
    dataset_fields,
)
from connectors.personalize.requests import DEFAULT_PROPERTIES, EventProperty
from schemas.model import Contracts

NAMESPACE: Final = "com.amazonaws.personalize.schema"

KEYWORDS: Final = (
    "USER_ID",
    "ITEM_ID",
    "TIMESTAMP",
    "EVENT_TYPE",
    "EVENT_VALUE",
    "IMPRESSION",
    "RECOMMENDATION_ID",
    "EVENT_ATTRIBUTION_SOURCE",
    "CREATION_TIMESTAMP",
)
"""Names with a meaning in Personalize, which values may not have."""

Schema = dict[str, Any]


def users_schema(contracts: Contracts) -> Schema:
    """The Avro schema of the Users dataset."""
    return _dataset_schema(contracts, "Users", "USER_ID", USERS)


def items_schema(contracts: Contracts) -> Schema:
    """The Avro schema of the Items dataset: every item domain goes into it."""
    return _dataset_schema(contracts, "Items", "ITEM_ID", ITEMS)


def interactions_schema(
    contracts: Contracts, properties: Sequence[EventProperty] = DEFAULT_PROPERTIES
) -> Schema:
    """The Avro schema of the Item interactions dataset; ``properties`` as PutEvents gets them."""
    fields: list[Schema] = [
        {"name": "USER_ID", "type": "string"},
        {"name": "ITEM_ID", "type": "string"},
        {"name": "TIMESTAMP", "type": "long"},
        {"name": "EVENT_TYPE", "type": "string"},
        {"name": "EVENT_VALUE", "type": ["float", "null"]},
        {"name": "RECOMMENDATION_ID", "type": ["string", "null"]},
        {"name": "IMPRESSION", "type": ["string", "null"]},
        *({**_categorical(), "name": column_of(entry)} for entry in properties),
    ]
    return _record("Interactions", fields)


def column_of(entry: EventProperty) -> str:
    """The column of an event's property: `itemType` is `ITEM_TYPE`."""
    return re.sub("([A-Z])", r"_\1", entry.key).upper()


def columns(schema: Schema) -> tuple[str, ...]:
    """The names of a schema's fields: the header of its CSV."""
    return tuple(field["name"] for field in schema["fields"])


def definition(schema: Schema) -> str:
    """The text that CreateSchema takes."""
    return json.dumps(schema, separators=(",", ":"))


def _dataset_schema(contracts: Contracts, name: str, id_column: str, dataset: Dataset) -> Schema:
    fields = [{"name": id_column, "type": "string"}]
    fields += [_field(field) for field in dataset_fields(contracts, dataset)]
    return _record(name, fields)


def _field(field: DatasetField) -> Schema:
    name = {"name": field.column}
    match field.kind:
        case FieldKind.SECONDS:
            return {**name, "type": ["long", "null"]}
        case FieldKind.BOOLEAN:
            return {**name, "type": ["boolean", "null"]}
        case FieldKind.NUMBER:
            return {**name, "type": [field.avro, "null"]}
        case FieldKind.TEXT:
            return {**name, "type": ["string", "null"], "textual": True}
        case _:
            return {**name, **_categorical()}


def _categorical() -> Schema:
    return {"type": ["string", "null"], "categorical": True}


def _record(name: str, fields: Sequence[Schema]) -> Schema:
    return {
        "type": "record",
        "name": name,
        "namespace": NAMESPACE,
        "fields": list(fields),
        "version": "1.0",
    }
