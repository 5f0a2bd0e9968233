"""Why a record cannot be used: the vocabulary of dead letters."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Machine-readable reasons of the decode step; part of the frozen dead-letter format."""

    EMPTY_VALUE = "empty_value"
    BAD_MAGIC_BYTE = "bad_magic_byte"
    TRUNCATED_HEADER = "truncated_header"
    UNKNOWN_COMPRESSION = "unknown_compression"
    CORRUPT_COMPRESSION = "corrupt_compression"
    UNKNOWN_SCHEMA_ID = "unknown_schema_id"
    WRONG_SCHEMA = "wrong_schema"
    TRUNCATED_BODY = "truncated_body"
    TRAILING_BYTES = "trailing_bytes"
    WRONG_TYPE = "wrong_type"
    MISSING_ID = "missing_id"
    OVERSIZE = "oversize"
    FUTURE_TIMESTAMP = "future_timestamp"
    INVALID_VALUE = "invalid_value"


class InvalidRecord(Exception):
    """A record that will never be usable as it is: never retried, always a dead letter."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
