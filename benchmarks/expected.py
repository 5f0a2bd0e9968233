"""What a correct enrichment writes: a plain-Python join that shares no code with any system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.model import Contract, Contracts, Role
from verification.reference import item_content, user_content

Record = dict[str, Any]


class NewestVersions:
    """The newest version of each user and item of the topics."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = {c.topic: c for c in contracts.sources}
        self.users: dict[str, tuple[int, Record | None]] = {}
        self.items: dict[str, tuple[int, Record | None]] = {}

    def add(self, topic: str, record: Record, timestamp: int, origin: str) -> None:
        """Add a version, unless a newer one is known; of equal ones the later one is kept."""
        contract = self._contracts[topic]
        mapping = contract.user or contract.item
        assert mapping is not None, f"{topic} has neither users nor items"
        versions = self.users if contract.role is Role.USER else self.items
        key = record[mapping.user_id if contract.user else mapping.item_id]  # type: ignore[union-attr]
        updated = record[mapping.updated] if mapping.updated else None
        version = timestamp if updated is None else updated
        if key in versions and versions[key][0] > version:
            return
        is_deleted = mapping.deleted is not None and record[mapping.deleted]
        versions[key] = (version, None if is_deleted else content(contract, record, origin))

    def enrich(self, interaction: Mapping[str, Any], published_at: int, origin: str) -> Record:
        """Return the enriched record of an interaction, after all versions were added."""
        user_id = interaction["user_id"]
        return {
            **interaction,
            "origin": origin,
            "published_at": published_at,
            "user": None if user_id is None else self.users.get(user_id, (0, None))[1],
            "item": self.items.get(interaction["item_id"], (0, None))[1],
        }


def content(contract: Contract, record: Record, origin: str) -> Record:
    """Return the user or item of an enriched record."""
    if contract.user is not None:
        return user_content(contract.user, record) | {"origin": origin}
    assert contract.item is not None, f"{contract.name} has neither users nor items"
    return item_content(contract.item, record) | {"origin": origin}


def without_origins(record: Mapping[str, Any]) -> Record:
    """Return an enriched record without origins, for a system that does not write them."""
    stripped = {name: value for name, value in record.items() if name != "origin"}
    for name in ("user", "item"):
        if stripped[name] is not None:
            stripped[name] = {k: v for k, v in stripped[name].items() if k != "origin"}
    return stripped


def differing_fields(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the fields that differ, such as ``user.country`` for nested ones."""
    names = []
    for name in sorted(expected.keys() | actual.keys()):
        left, right = expected.get(name), actual.get(name)
        if left == right:
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            names += [f"{name}.{nested}" for nested in differing_fields(left, right)]
        else:
            names.append(name)
    return tuple(names)
