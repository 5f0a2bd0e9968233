"""Malformed records: a way to corrupt a valid one for each reason.

Pure: the same record and variant give the same bytes.
"""

from __future__ import annotations

import hashlib

from schemas import wire
from schemas.invalid import Reason
from schemas.model import Contract, Role, split_nullable
from schemas.rules import MAX_ID_LENGTH
from verification.entries import Record

# Few distinct unknown ids: the decode step makes a registry call for each of them.
_UNKNOWN_IDS = 4
# Later than any clock that reads this: the year 2300 and on.
_AHEAD_MS = 330 * 365 * 86_400_000

INTERACTION_REASONS = tuple(Reason)
# A null value of a user or item is a deletion.
DIMENSION_REASONS = tuple(reason for reason in Reason if reason is not Reason.EMPTY_VALUE)
_EVENT_IDS = ("event_id", "item_id", "session_id", "user_id")


def corrupt_record(reason: Reason, contract: Contract, record: Record, variant: int) -> Record:
    """Return the record with a corrupt field, or unchanged if its bytes are to be corrupted."""
    interaction = contract.role is Role.INTERACTION
    ids = _EVENT_IDS if interaction else (contract.key,)
    if reason is Reason.MISSING_ID:
        return {**record, ids[variant % len(ids)]: ""}
    if reason is Reason.INVALID_VALUE:
        return {**record, ids[variant % len(ids)]: "x" * (MAX_ID_LENGTH + 1)}
    if reason is Reason.OVERSIZE:
        return {**record, _padded_field(contract): "x" * (contract.max_bytes + 1)}
    if reason is Reason.FUTURE_TIMESTAMP:
        name = "occurred_at" if interaction else _updated_field(contract)
        return {**record, name: (record[name] or 0) + _AHEAD_MS}
    return record


def reasons_of(contract: Contract) -> tuple[Reason, ...]:
    """Return the reasons for which a record of this contract can be corrupted."""
    if contract.role is Role.INTERACTION:
        return INTERACTION_REASONS
    unusable = set[Reason]()
    if not _updated_field(contract):
        unusable.add(Reason.FUTURE_TIMESTAMP)
    if not _padded_field(contract):
        unusable.add(Reason.OVERSIZE)
    if contract.newest.avro["fields"][0]["type"] != "string":
        unusable |= {Reason.TRUNCATED_BODY, Reason.WRONG_TYPE}
    return tuple(reason for reason in DIMENSION_REASONS if reason not in unusable)


def _updated_field(contract: Contract) -> str:
    mapping = contract.item or contract.user
    return (mapping.updated if mapping else None) or ""


def _padded_field(contract: Contract) -> str:
    """Return a field of text beside the ids."""
    if contract.role is Role.INTERACTION:
        return "device"
    texts = (
        field["name"]
        for field in contract.newest.avro["fields"]
        if field["name"] != contract.key and split_nullable(field["type"])[0] == "string"
    )
    return next(texts, "")


def corrupt_value(
    reason: Reason, contract: Contract, value: bytes, foreign: bytes, variant: int
) -> bytes | None:
    """Return a record's value with corrupt bytes.

    ``value`` is the encoded record, ``foreign`` a valid value of another contract.
    """
    body = value[wire.HEADER_SIZE :]
    match reason:
        case Reason.EMPTY_VALUE:
            return None
        case Reason.BAD_MAGIC_BYTE:
            return b'{"event_id":"json-by-mistake"}' if variant % 2 else b"\x00" + value[1:]
        case Reason.TRUNCATED_HEADER:
            return value[: 1 + variant % (wire.HEADER_SIZE - 1)]
        case Reason.UNKNOWN_COMPRESSION:
            return value[:1] + b"\x07" + value[2:]
        case Reason.CORRUPT_COMPRESSION:
            return value[:1] + bytes((wire.ZLIB,)) + value[2 : wire.HEADER_SIZE] + b"not zlib"
        case Reason.UNKNOWN_SCHEMA_ID:
            unknown = hashlib.md5(f"unknown {variant % _UNKNOWN_IDS}".encode()).digest()
            return value[:2] + unknown + body
        case Reason.WRONG_SCHEMA:
            return foreign
        case Reason.TRUNCATED_BODY:
            # Ends in the first string, the id.
            return value[: wire.HEADER_SIZE + 2]
        case Reason.TRAILING_BYTES:
            return value + b"\x00\x02"
        case Reason.WRONG_TYPE:
            # The first field is a string, and 0xff is never valid in UTF-8.
            return value[: wire.HEADER_SIZE + 1] + b"\xff" + value[wire.HEADER_SIZE + 2 :]
        case _:
            return value
