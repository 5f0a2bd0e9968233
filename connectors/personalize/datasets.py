"""Users and items as records of PutUsers and PutItems, and every limit of these calls.

Pure. The service replaces a record completely, so a request has all known fields of the user or
item; unknown ones are absent. Which fields there are is in the contract
`interactions-enriched`: its records of a user and of an item are what `schemas.projection` makes of
any domain, so that a new item domain needs nothing here.

Lengths count Unicode characters. "Model" is the service model `personalize-events/2018-03-22`;
"Guide" is the Amazon Personalize Developer Guide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from connectors.delivery import Rejected, Version
from connectors.personalize.requests import categories, category, encode_json, id_problem
from schemas.model import Contracts, Role, split_nullable
from schemas.rules import MAX_ID_LENGTH

MAX_RECORDS_PER_CALL: Final = 10  # Model: UserList, ItemList
CALLS_PER_SECOND: Final = 10.0  # Guide, quotas: PutUsers and PutItems, each, per dataset group
MAX_TEXT_LENGTH: Final = 1_000  # Guide, datasets: a categorical value; a longer one fails an import

TEXTUAL: Final = "title"
"""The field of an item that is free text; other texts are categories."""

ORIGIN: Final = "origin"
"""The projection's field of where a record was read; it is not sent."""


class FieldKind(Enum):
    """How the value of a field is written into the properties."""

    TEXT = "a text"
    CATEGORY = "a text that is a category"
    CATEGORIES = "a list of texts, joined by |"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    SECONDS = "seconds since 1970, from milliseconds"


@dataclass(frozen=True, slots=True)
class DatasetField:
    """A field of a dataset: its name in the projection (`age_band`), and its kind.

    `avro` is its Avro type there, beside null: `long`.
    """

    source: str
    kind: FieldKind
    avro: str = "string"

    @property
    def column(self) -> str:
        """Its name in the dataset's schema: `AGE_BAND`, and Personalize's own for a creation."""
        return "CREATION_TIMESTAMP" if self.source == "created_at" else self.source.upper()

    @property
    def key(self) -> str:
        """Its key in properties: the schema's name in camel case, `ageBand`."""
        first, *others = self.column.lower().split("_")
        return first + "".join(part.capitalize() for part in others)


@dataclass(frozen=True, slots=True)
class Dataset:
    """One of the two datasets that records are put into; the names are those of the operation."""

    operation: str
    path: str
    member: str
    id_member: str
    arn_ending: str
    max_properties_length: int
    enriched_field: str
    """The field of an enriched interaction that holds such a record."""


USERS: Final = Dataset("PutUsers", "/users", "users", "userId", "/USERS", 24_000, "user")
ITEMS: Final = Dataset("PutItems", "/items", "items", "itemId", "/ITEMS", 32_000, "item")


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A version of a user or item. `record`: as `project_user` or `project_item` makes it.

    `version` orders the versions of an id: when the domain changed it (milliseconds since 1970),
    then the offset.
    """

    id: str
    version: Version
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One record, converted and checked: its JSON text in a call."""

    id: str
    version: Version
    text: str
    size: int
    """Bytes of `text` in UTF-8."""


def dataset_fields(contracts: Contracts, dataset: Dataset) -> tuple[DatasetField, ...]:
    """The fields of a dataset, in the order of the contract `interactions-enriched`."""
    enriched = contracts.only(Role.ENRICHED).newest.avro
    union = next(f["type"] for f in enriched["fields"] if f["name"] == dataset.enriched_field)
    return tuple(
        _field(field["name"], field["type"])
        for field in split_nullable(union)[0]["fields"]
        if field["name"] != ORIGIN
    )


class DatasetRequests:
    """Converts records of one dataset."""

    def __init__(self, dataset: Dataset, fields: Sequence[DatasetField]) -> None:
        self._dataset = dataset
        self._fields = tuple(fields)

    @property
    def max_record_bytes(self) -> int:
        """Maximum bytes of an entry, which follow from the service's limits of length.

        A character of an id has 6 bytes at most (an escape); of properties 4, since what JSON
        escapes is written as several plain characters there.
        """
        return 6 * MAX_ID_LENGTH + 4 * self._dataset.max_properties_length + 64

    def convert(self, record: DatasetRecord) -> DatasetEntry | Rejected:
        """The entry to send, or why the service would reject it.

        The message of a rejection names the field, never its value.
        """
        problem = id_problem(self._dataset.id_member, record.id)
        if problem is not None:
            return _invalid(problem)
        properties: dict[str, object] = {}
        for field in self._fields:
            value = record.record.get(field.source)
            if value is None:
                continue
            written = _written(field.kind, value)
            if written is None:
                return _invalid(f"{field.source} is not {field.kind.value}")
            if isinstance(written, str) and len(written) > MAX_TEXT_LENGTH:
                return _invalid(
                    f"{field.source} has {len(written)} characters, at most {MAX_TEXT_LENGTH}"
                )
            if written != "":
                properties[field.key] = written
        return self._entry(record, properties)

    def _entry(
        self, record: DatasetRecord, properties: Mapping[str, object]
    ) -> DatasetEntry | Rejected:
        entry: dict[str, object] = {self._dataset.id_member: record.id}
        if properties:
            text = encode_json(properties)
            maximum = self._dataset.max_properties_length
            if len(text) > maximum:
                return _invalid(f"properties have {len(text)} characters, at most {maximum}")
            entry["properties"] = text
        text = encode_json(entry)
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return _invalid(f"{_not_unicode(record)} is not valid Unicode: it has a lone surrogate")
        return DatasetEntry(record.id, record.version, text, size)


def put_records_body(dataset: Dataset, arn: str, entries: Sequence[DatasetEntry]) -> bytes:
    """The body of one PutUsers or PutItems call, of 1 to 10 entries."""
    if not 1 <= len(entries) <= MAX_RECORDS_PER_CALL:
        raise ValueError(
            f"{len(entries)} records; {dataset.operation} allows 1 to {MAX_RECORDS_PER_CALL}"
        )
    texts = ",".join([entry.text for entry in entries])
    return f'{{"datasetArn":{encode_json(arn)},"{dataset.member}":[{texts}]}}'.encode()


def _field(name: str, avro: Any) -> DatasetField:
    inner, _ = split_nullable(avro)
    plain = inner["type"] if isinstance(inner, dict) else inner
    if isinstance(inner, dict) and inner.get("logicalType") == "timestamp-millis":
        return DatasetField(name, FieldKind.SECONDS, plain)
    kinds = {
        "string": FieldKind.TEXT if name == TEXTUAL else FieldKind.CATEGORY,
        "array": FieldKind.CATEGORIES,
        "boolean": FieldKind.BOOLEAN,
        **dict.fromkeys(("int", "long", "float", "double"), FieldKind.NUMBER),
    }
    if not isinstance(plain, str) or plain not in kinds:
        raise ValueError(f"the field {name} is of the Avro type {plain}, which Personalize lacks")
    return DatasetField(name, kinds[plain], plain)


def _written(kind: FieldKind, value: Any) -> str | int | float | bool | None:
    """The value in Personalize's form, None when it is of another type; an empty one is unknown."""
    if kind is FieldKind.TEXT:
        return value if isinstance(value, str) else None
    if kind is FieldKind.CATEGORY:
        return category(value) if isinstance(value, str) else None
    if kind is FieldKind.CATEGORIES:
        if not isinstance(value, list | tuple):
            return None
        if not all(isinstance(part, str) for part in value):
            return None
        return categories(value)
    if kind is FieldKind.BOOLEAN:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        return None  # the last: infinities and NaN, which JSON does not have
    if kind is FieldKind.SECONDS:
        # A song may be older than 1970; whether the service accepts a negative number is not
        # documented, and its age makes no difference then.
        return max(0, int(value // 1000))
    return value


def _invalid(problem: str) -> Rejected:
    return Rejected("InvalidRecord", problem)


def _not_unicode(record: DatasetRecord) -> str:
    def texts() -> Iterator[tuple[str, str]]:
        yield "the id", record.id
        for name, value in record.record.items():
            yield name, "".join(value) if isinstance(value, list | tuple) else str(value)

    return next((name for name, text in texts() if not _is_unicode(text)), "a text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
