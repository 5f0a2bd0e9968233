"""Why a record cannot be used: the reason codes of dead letters."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Machine-readable reasons of the decode step; part of the frozen dead-letter format.

    Each has an ``explanation``: what is wrong with the record, as the end of "the record ...".
    """

    explanation: str

    def __new__(cls, code: str, explanation: str = "") -> Self:
        reason = str.__new__(cls, code)
        reason._value_ = code
        reason.explanation = explanation
        return reason

    EMPTY_VALUE = "empty_value", "has no value, or is a deletion without a key"
    BAD_MAGIC_BYTE = "bad_magic_byte", "does not begin with a header of the Glue Schema Registry"
    TRUNCATED_HEADER = "truncated_header", "ends within the header of the Glue Schema Registry"
    UNKNOWN_COMPRESSION = "unknown_compression", "is compressed by another method than zlib"
    CORRUPT_COMPRESSION = "corrupt_compression", "cannot be decompressed"
    UNKNOWN_SCHEMA_ID = (
        "unknown_schema_id",
        "names a schema version that the registry does not have",
    )
    WRONG_SCHEMA = (
        "wrong_schema",
        "was written with the schema of another topic, or with one that is not Avro",
    )
    TRUNCATED_BODY = "truncated_body", "is shorter than its schema says"
    TRAILING_BYTES = "trailing_bytes", "is longer than its schema says"
    WRONG_TYPE = "wrong_type", "does not fit the contract's schema"
    MISSING_ID = "missing_id", "lacks an id that the contract requires"
    OVERSIZE = "oversize", "is larger than the contract allows"
    FUTURE_TIMESTAMP = (
        "future_timestamp",
        "has an occurred_at or updated_at more than a day after its publication",
    )
    INVALID_VALUE = (
        "invalid_value",
        "has an id, time (such as seconds for milliseconds) or other value that cannot be used",
    )


class InvalidRecord(Exception):
    """A record that will never be usable as it is: never retried, always a dead letter.

    ``field``: the field that is at fault, where it is one.
    """

    def __init__(self, reason: Reason, message: str, field: str | None = None) -> None:
        super().__init__(reason, message, field)
        self.reason = reason
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
