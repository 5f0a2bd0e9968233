"""What a correct enrichment writes: a plain-Python join that shares no code with any system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.model import Contract, Contracts, Role

Record = dict[str, Any]


class Newest:
    """The newest version of each user and item, read from their topics."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = {c.topic: c for c in contracts.sources}
        self.users: dict[str, tuple[int, Record | None]] = {}
        self.items: dict[str, tuple[int, Record | None]] = {}

    def add(self, topic: str, record: Record, timestamp: int, origin: str) -> None:
        """Take a version in; an older one never replaces a newer one, of equals the later does."""
        contract = self._contracts[topic]
        mapping = contract.user or contract.item
        assert mapping is not None, f"{topic} has neither users nor items"
        held = self.users if contract.role is Role.USER else self.items
        key = record[mapping.user_id if contract.user else mapping.item_id]  # type: ignore[union-attr]
        updated = record[mapping.updated] if mapping.updated else None
        version = timestamp if updated is None else updated
        if key in held and held[key][0] > version:
            return
        deleted = mapping.deleted is not None and record[mapping.deleted]
        attached = None if deleted else _attached(contract, record) | {"origin": origin}
        held[key] = (version, attached)

    def enrich(self, interaction: Mapping[str, Any], published_at: int, origin: str) -> Record:
        """The enriched record of an interaction once all versions are taken in."""
        user_id = interaction["user_id"]
        return {
            **interaction,
            "origin": origin,
            "published_at": published_at,
            "user": None if user_id is None else self.users.get(user_id, (0, None))[1],
            "item": self.items.get(interaction["item_id"], (0, None))[1],
        }


def _attached(contract: Contract, record: Record) -> Record:
    def value(name: str | None) -> Any:
        return None if name is None else record[name]

    if contract.user is not None:
        user = contract.user
        return {
            "country": value(user.country),
            "age_band": value(user.age_band),
            "subscription": value(user.subscription),
            "created_at": value(user.created),
        }
    item = contract.item
    assert item is not None
    duration = value(item.duration)
    creators = (record[name] for name in item.creator)
    return {
        "item_type": item.type,
        "title": record[item.title],
        "creator": next((name for name in creators if name is not None), None),
        "genres": [] if item.genres is None else record[item.genres],
        "duration_ms": None if duration is None else duration * item.duration_unit_ms,
        "language": value(item.language),
        "created_at": value(item.created),
    }


def without_origins(record: Mapping[str, Any]) -> Record:
    """An enriched record less where things came from, for a system that cannot know it."""
    stripped = {name: value for name, value in record.items() if name != "origin"}
    for name in ("user", "item"):
        if stripped[name] is not None:
            stripped[name] = {k: v for k, v in stripped[name].items() if k != "origin"}
    return stripped


def differing_fields(expected: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the fields in which two records differ, ``user.country`` for nested ones."""
    names = []
    for name in sorted(expected.keys() | found.keys()):
        left, right = expected.get(name), found.get(name)
        if left == right:
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            names += [f"{name}.{nested}" for nested in differing_fields(left, right)]
        else:
            names.append(name)
    return tuple(names)
