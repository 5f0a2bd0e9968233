"""What a schema may hold: "Creating schema JSON files" in the Amazon Personalize developer guide.

Pure. A schema is a flat Avro record named after its dataset type. Custom dataset groups only: no
domain's required fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from emulators.errors import ServiceError, invalid_input

Kind = Literal["INTERACTIONS", "ITEMS", "USERS"]

NAMESPACE: Final = "com.amazonaws.personalize.schema"
KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {"Interactions": "INTERACTIONS", "Items": "ITEMS", "Users": "USERS"}
)
REQUIRED: Final[Mapping[Kind, Mapping[str, str]]] = MappingProxyType(
    {
        "INTERACTIONS": {"USER_ID": "string", "ITEM_ID": "string", "TIMESTAMP": "long"},
        "ITEMS": {"ITEM_ID": "string"},
        "USERS": {"USER_ID": "string"},
    }
)
RESERVED: Final[Mapping[Kind, Mapping[str, tuple[str, bool]]]] = MappingProxyType(
    {
        "INTERACTIONS": {
            "EVENT_TYPE": ("string", False),
            "EVENT_VALUE": ("float", True),
            "IMPRESSION": ("string", True),
            "RECOMMENDATION_ID": ("string", True),
            "EVENT_ATTRIBUTION_SOURCE": ("string", True),
        },
        # Documented as long; null is taken, because the guide also says what a missing one means.
        "ITEMS": {"CREATION_TIMESTAMP": ("long", True)},
        "USERS": {},
    }
)
"""The type of a reserved field, and whether it may be null."""

KEYWORDS: Final = frozenset(
    name for fields in (*REQUIRED.values(), *RESERVED.values()) for name in fields
)
"""Names that may not appear as values."""

MOST_METADATA: Final[Mapping[Kind, int]] = MappingProxyType(
    {"INTERACTIONS": 5, "ITEMS": 100, "USERS": 25}
)
TYPES: Final = ("string", "int", "long", "float", "double", "boolean")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,149}")


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its one type beside null, and how training may use its texts."""

    name: str
    type: str
    nullable: bool
    categorical: bool
    textual: bool


@dataclass(frozen=True, slots=True)
class DatasetSchema:
    """A schema that can be used: `kind` is the dataset type, fields are in the order of the CSV."""

    kind: Kind
    fields: tuple[Field, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The header of an import."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field | None:
        """A field by its name."""
        return next((field for field in self.fields if field.name == name), None)


def parse(text: str) -> DatasetSchema:
    """The schema in `text`; raises InvalidInputException with the first rule that it breaks."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused("it is not JSON") from error
    if not isinstance(document, dict) or document.get("type") != "record":
        raise _refused("it is not an Avro record")
    kind = KINDS.get(str(document.get("name")))
    if kind is None:
        raise _refused(f"its name must be one of {', '.join(KINDS)}")
    if document.get("namespace") != NAMESPACE:
        raise _refused(f"its namespace must be {NAMESPACE}")
    entries = document.get("fields")
    if not isinstance(entries, list) or not entries:
        raise _refused("it has no fields")
    schema = DatasetSchema(kind, tuple(_field(entry) for entry in entries))
    _check_names(schema)
    _check_required(schema)
    _check_metadata(schema)
    return schema


def replacement_problem(old: DatasetSchema, new: DatasetSchema) -> str | None:
    """Why `new` cannot replace `old` in a dataset ; None: it can.

    The rules are those of "Replacing a dataset's schema" in the developer guide.
    """
    if new.kind != old.kind:
        return f"the schema is one of {new.kind}, the dataset holds {old.kind}"
    if new.kind == "INTERACTIONS":
        return "the schema of an Item interactions dataset cannot be replaced"
    for field in old.fields:
        if new.field(field.name) != field:
            return f"the field {field.name} is gone or has changed"
    for field in new.fields:
        if old.field(field.name) is None and not field.nullable:
            return f"the new field {field.name} does not allow null"
    return None


def _field(entry: Any) -> Field:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise _refused("a field has no name")
    name = entry["name"]
    if not _NAME.fullmatch(name):
        raise _refused(f"the field name '{name}' is not made of letters, digits and underscores")
    found = entry.get("type")
    branches = found if isinstance(found, list) else [found]
    if not all(isinstance(branch, str) for branch in branches):
        raise _refused(f"the field {name} is nested: schemas are flat")
    types = [branch for branch in branches if branch != "null"]
    if len(types) != 1 or len(branches) > 2 or types[0] not in TYPES:
        raise _refused(
            f"the field {name} must have one type of {', '.join(TYPES)}, with or without null"
        )
    flags = {flag: entry.get(flag, False) for flag in ("categorical", "textual")}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise _refused(f"'{flag}' of the field {name} must be true or false")
        if value and types[0] != "string":
            raise _refused(f"the field {name} is {flag}, which only strings can be")
    if all(flags.values()):
        raise _refused(f"the field {name} is both categorical and textual")
    return Field(name, types[0], "null" in branches, flags["categorical"], flags["textual"])


def _check_names(schema: DatasetSchema) -> None:
    seen: dict[str, str] = {}
    for field in schema.fields:
        bare = field.name.replace("_", "").upper()
        if bare in seen:
            raise _refused(
                f"the fields {seen[bare]} and {field.name} do not differ in letters and digits"
            )
        seen[bare] = field.name


def _check_required(schema: DatasetSchema) -> None:
    for name, wanted in REQUIRED[schema.kind].items():
        field = schema.field(name)
        if field is None:
            raise _refused(f"the required field {name} is missing")
        if field != Field(name, wanted, False, False, False):
            raise _refused(f"the required field {name} must be of type {wanted} and nothing else")
    for name, (wanted, may_be_null) in RESERVED[schema.kind].items():
        field = schema.field(name)
        if field is None:
            continue
        if field.type != wanted or (field.nullable and not may_be_null):
            null = " or null" if may_be_null else ""
            raise _refused(f"the reserved field {name} must be of type {wanted}{null}")
        if field.categorical or field.textual:
            raise _refused(f"the reserved field {name} cannot be categorical or textual")


def _check_metadata(schema: DatasetSchema) -> None:
    own = REQUIRED[schema.kind].keys() | RESERVED[schema.kind].keys()
    metadata = [field for field in schema.fields if field.name not in own]
    most = MOST_METADATA[schema.kind]
    if len(metadata) > most:
        raise _refused(f"it has {len(metadata)} metadata fields, at most {most} are allowed")
    beside_required = len(schema.fields) - len(REQUIRED[schema.kind])
    if schema.kind != "INTERACTIONS" and not beside_required:
        raise _refused("it needs at least one metadata field")
    textual = [field.name for field in metadata if field.textual]
    if textual and schema.kind != "ITEMS":
        raise _refused(f"the field {textual[0]} is textual, which only Items can have")
    if len(textual) > 1:
        raise _refused(f"it has {len(textual)} textual fields, at most 1 is allowed")


def _refused(problem: str) -> ServiceError:
    return invalid_input(f"The schema cannot be used: {problem}.")
