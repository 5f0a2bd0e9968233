"""The rules of schemas: "Creating schema JSON files" in the Amazon Personalize developer guide.

Pure. A schema is a flat Avro record named after its dataset type. Only custom dataset groups are
supported, without the required fields of domains.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from emulators.errors import ServiceError, invalid_input

Kind = Literal["INTERACTIONS", "ITEMS", "USERS"]

NAMESPACE: Final = "com.amazonaws.personalize.schema"
KINDS: Final[Mapping[str, Kind]] = {
    "Interactions": "INTERACTIONS",
    "Items": "ITEMS",
    "Users": "USERS",
}
REQUIRED: Final[Mapping[Kind, Mapping[str, str]]] = {
    "INTERACTIONS": {"USER_ID": "string", "ITEM_ID": "string", "TIMESTAMP": "long"},
    "ITEMS": {"ITEM_ID": "string"},
    "USERS": {"USER_ID": "string"},
}
RESERVED: Final[Mapping[Kind, Mapping[str, tuple[str, bool]]]] = {
    "INTERACTIONS": {
        "EVENT_TYPE": ("string", False),
        "EVENT_VALUE": ("float", True),
        "IMPRESSION": ("string", True),
        "RECOMMENDATION_ID": ("string", True),
        "EVENT_ATTRIBUTION_SOURCE": ("string", True),
    },
    # Documented as long; null is allowed, because the guide explains a missing value.
    "ITEMS": {"CREATION_TIMESTAMP": ("long", True)},
    "USERS": {},
}
"""The type of each reserved field, and whether it may be null."""

KEYWORDS: Final = frozenset(
    name for fields in (*REQUIRED.values(), *RESERVED.values()) for name in fields
)
"""Names that may not appear as values."""

MAX_METADATA_FIELDS: Final[Mapping[Kind, int]] = {"INTERACTIONS": 5, "ITEMS": 100, "USERS": 25}
TYPES: Final = ("string", "int", "long", "float", "double", "boolean")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,149}")


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its type (besides null), and how training uses its texts."""

    name: str
    type: str
    nullable: bool
    categorical: bool
    textual: bool


@dataclass(frozen=True, slots=True)
class DatasetSchema:
    """A valid schema: `kind` is the dataset type, the fields are in the order of the CSV."""

    kind: Kind
    fields: tuple[Field, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The header of a CSV file."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field | None:
        """The field with this name, or None."""
        return next((field for field in self.fields if field.name == name), None)


def parse(text: str) -> DatasetSchema:
    """The schema in `text`; raises InvalidInputException with the first violated rule."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _schema_error("it is not JSON") from error
    if not isinstance(document, dict) or document.get("type") != "record":
        raise _schema_error("it is not an Avro record")
    kind = KINDS.get(str(document.get("name")))
    if kind is None:
        raise _schema_error(f"its name must be one of {', '.join(KINDS)}")
    if document.get("namespace") != NAMESPACE:
        raise _schema_error(f"its namespace must be {NAMESPACE}")
    entries = document.get("fields")
    if not isinstance(entries, list) or not entries:
        raise _schema_error("it has no fields")
    schema = DatasetSchema(kind, tuple(_parse_field(entry) for entry in entries))
    _check_names(schema)
    _check_required(schema)
    _check_metadata(schema)
    return schema


def replacement_problem(old: DatasetSchema, new: DatasetSchema) -> str | None:
    """Why `new` cannot replace `old` in a dataset, or None if it can.

    The rules are those of "Replacing a dataset's schema" in the developer guide.
    """
    if new.kind != old.kind:
        return f"the schema is for {new.kind}, the dataset holds {old.kind}"
    if new.kind == "INTERACTIONS":
        return "the schema of an Item interactions dataset cannot be replaced"
    for field in old.fields:
        if new.field(field.name) != field:
            return f"the field {field.name} was removed or changed"
    for field in new.fields:
        if old.field(field.name) is None and not field.nullable:
            return f"the new field {field.name} does not allow null"
    return None


def _parse_field(entry: Any) -> Field:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise _schema_error("a field has no name")
    name = entry["name"]
    if not _NAME.fullmatch(name):
        raise _schema_error(
            f"the field name '{name}' is not made of letters, digits and underscores"
        )
    declared = entry.get("type")
    branches = declared if isinstance(declared, list) else [declared]
    if not all(isinstance(branch, str) for branch in branches):
        raise _schema_error(f"the field {name} is nested: schemas are flat")
    types = [branch for branch in branches if branch != "null"]
    if len(types) != 1 or len(branches) > 2 or types[0] not in TYPES:
        raise _schema_error(
            f"the field {name} must have one type of {', '.join(TYPES)}, with or without null"
        )
    flags = {flag: entry.get(flag, False) for flag in ("categorical", "textual")}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise _schema_error(f"'{flag}' of the field {name} must be true or false")
        if value and types[0] != "string":
            raise _schema_error(f"the field {name} is {flag}, which only strings can be")
    if all(flags.values()):
        raise _schema_error(f"the field {name} is both categorical and textual")
    return Field(name, types[0], "null" in branches, flags["categorical"], flags["textual"])


def _check_names(schema: DatasetSchema) -> None:
    seen: dict[str, str] = {}
    for field in schema.fields:
        bare = field.name.replace("_", "").upper()
        if bare in seen:
            raise _schema_error(
                f"the fields {seen[bare]} and {field.name} do not differ in letters and digits"
            )
        seen[bare] = field.name


def _check_required(schema: DatasetSchema) -> None:
    for name, expected in REQUIRED[schema.kind].items():
        field = schema.field(name)
        if field is None:
            raise _schema_error(f"the required field {name} is missing")
        if field != Field(name, expected, False, False, False):
            raise _schema_error(f"the required field {name} must be of type {expected} only")
    for name, (expected, is_nullable) in RESERVED[schema.kind].items():
        field = schema.field(name)
        if field is None:
            continue
        if field.type != expected or (field.nullable and not is_nullable):
            null = " or null" if is_nullable else ""
            raise _schema_error(f"the reserved field {name} must be of type {expected}{null}")
        if field.categorical or field.textual:
            raise _schema_error(f"the reserved field {name} cannot be categorical or textual")


def _check_metadata(schema: DatasetSchema) -> None:
    named = REQUIRED[schema.kind].keys() | RESERVED[schema.kind].keys()
    metadata = [field for field in schema.fields if field.name not in named]
    maximum = MAX_METADATA_FIELDS[schema.kind]
    if len(metadata) > maximum:
        raise _schema_error(
            f"it has {len(metadata)} metadata fields, at most {maximum} are allowed"
        )
    other_fields = len(schema.fields) - len(REQUIRED[schema.kind])
    if schema.kind != "INTERACTIONS" and not other_fields:
        raise _schema_error("it needs at least one metadata field")
    textual = [field.name for field in metadata if field.textual]
    if textual and schema.kind != "ITEMS":
        raise _schema_error(f"the field {textual[0]} is textual, which only Items can have")
    if len(textual) > 1:
        raise _schema_error(f"it has {len(textual)} textual fields, at most 1 is allowed")


def _schema_error(problem: str) -> ServiceError:
    return invalid_input(f"The schema cannot be used: {problem}.")
