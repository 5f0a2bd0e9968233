"""The user or item part of an enriched interaction, from a record of any domain.

The mapping is in the contract (``item:`` and ``user:`` in contract.yaml), so that a new item domain
needs no code. A projection is what the enrichment keeps as state: a column added upstream does not
touch it.
"""

from __future__ import annotations

from typing import Any

from schemas.codec import Record
from schemas.model import Contract, ItemMapping, UserMapping
from schemas.records import EnrichedItem, EnrichedUser
from schemas.rules import check_created, check_id


def record_id(contract: Contract, record: Record) -> str:
    """The id of a user or item record; raises InvalidRecord(missing_id, invalid_value)."""
    mapping = contract.item or contract.user
    assert mapping is not None, contract.name
    field = mapping.item_id if isinstance(mapping, ItemMapping) else mapping.user_id
    return check_id(field, record[field])


def is_deleted(contract: Contract, record: Record) -> bool:
    """Whether the record says that its user or item is deleted."""
    return bool(_mapped(contract.item or contract.user, "deleted", record))


def updated_at(contract: Contract, record: Record) -> int | None:
    """When the domain changed the record, epoch milliseconds; None without such a field."""
    timestamp: int | None = _mapped(contract.item or contract.user, "updated", record)
    return timestamp


def project_user(contract: Contract, record: Record, origin: str) -> EnrichedUser:
    """The EnrichedUser of a record of the users domain."""
    mapping = contract.user
    assert mapping is not None, contract.name
    return {
        "country": _mapped(mapping, "country", record),
        "age_band": _mapped(mapping, "age_band", record),
        "subscription": _mapped(mapping, "subscription", record),
        "created_at": _created_at(mapping, record),
        "origin": origin,
    }


def project_item(contract: Contract, record: Record, origin: str) -> EnrichedItem:
    """The EnrichedItem of a record of any item domain; ``creator`` is the first that is known."""
    mapping = contract.item
    assert mapping is not None, contract.name
    duration = _mapped(mapping, "duration", record)
    return {
        "item_type": mapping.type,
        "title": record[mapping.title],
        "creator": next((record[name] for name in mapping.creator if record[name]), None),
        "genres": _mapped(mapping, "genres", record) or [],
        "duration_ms": None if duration is None else duration * mapping.duration_unit_ms,
        "language": _mapped(mapping, "language", record),
        "created_at": _created_at(mapping, record),
        "origin": origin,
    }


def _created_at(mapping: ItemMapping | UserMapping, record: Record) -> int | None:
    created = _mapped(mapping, "created", record)
    return check_created(
        mapping.created or "", created, may_be_early=isinstance(mapping, ItemMapping)
    )


def _mapped(mapping: ItemMapping | UserMapping | None, slot: str, record: Record) -> Any:
    field = getattr(mapping, slot)
    return None if field is None else record[field]
