"""Search for what is left of deleted users: in Personalize, in data products, and on the topic.

It finds what is stored, not what is derived from it: by positions and counts, never by user id.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from batch.deletions.users import USER_ID
from connectors.aws.sdk import service_errors
from connectors.products.location import Location
from connectors.products.manifest import NotPublished, read_manifest
from connectors.products.reader import ProductReader
from schemas.codec import Record
from schemas.model import Contract, Contracts, Role
from services.records import Rules
from verification.destinations import Topics
from verification.personalize_events import PersonalizeReader

PERSONALIZE_TABLES = ("users", "events", "ignored", "imported/users", "imported/interactions")
MAX_ASKED = 20
"""Of how many users the recommendations are compared with those of an unknown user."""

MAX_ITEMS = 25

AGAIN = "tunemesh deletions run --again"


@dataclass(frozen=True, slots=True)
class Leftover:
    """What is left of deleted users somewhere: how much, the first position, and what to do.

    ``pending``: it disappears without anything being done.
    """

    where: str
    count: int
    first: str
    advice: str
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest records of users on their topic, by id: position, and record (None: tombstone).

    ``former``: positions of older records of theirs that have content.
    """

    records: Mapping[str, tuple[str, Record | None]]
    former: tuple[str, ...]


def read_newest(topics: Topics, contract: Contract, users: Set[str]) -> Newest:
    """Read the topic of users from its beginning; raises KafkaUnavailable."""
    rules = Rules(contract)
    records: dict[str, tuple[str, Record | None]] = {}
    former = []
    for message, record in topics.records(contract):
        user = (message.key() or b"").decode(errors="replace")
        if user not in users:
            continue
        if user in records and has_content(rules, records[user][1]):
            former.append(records[user][0])
        position = f"{message.topic()}/{message.partition()}/{message.offset()}"
        records[user] = (position, None if record is None else dict(record))
    return Newest(records, tuple(former))


def has_content(rules: Rules, record: Record | None) -> bool:
    """Whether a record has more than the id, the version and the mark of its deletion."""
    return record is not None and not rules.is_erased(record)


def on_topic(newest: Newest, contract: Contract) -> Iterator[Leftover]:
    """Yield what the topic of users has; users who are there again are none."""
    rules = Rules(contract)
    kept = [
        position
        for position, record in newest.records.values()
        if has_content(rules, record) and record is not None and rules.is_deleted(record)
    ]
    if kept:
        advice = f"DELETE /{contract.name}/ID erases what an earlier release has kept"
        yield Leftover(f"topic {contract.topic}", len(kept), kept[0], advice)
    if newest.former:
        yield Leftover(
            f"topic {contract.topic}, former versions",
            len(newest.former),
            newest.former[0],
            "compaction removes them",
            pending=True,
        )


def restored(newest: Newest, contract: Contract) -> set[str]:
    """Return the users whose newest record says that they are there again."""
    rules = Rules(contract)
    return {
        user
        for user, (_, record) in newest.records.items()
        if record is not None and not rules.is_deleted(record)
    }


def in_personalize(reader: PersonalizeReader, users: Set[str]) -> Iterator[Leftover]:
    """Yield what the local Personalize has of the users; raises PersonalizeUnavailable."""
    for table in PERSONALIZE_TABLES:
        rows = [
            row["rowid"]
            for row in reader.rows(table)
            if (row.get("user_id") or row.get("USER_ID")) in users
        ]
        if rows:
            where = f"Personalize, {table}"
            yield Leftover(where, len(rows), f"row {rows[0]}", f"it came after the job: {AGAIN}")


def in_recommendations(
    runtime: Any, campaign: str, users: Set[str], items: int = MAX_ITEMS
) -> Iterator[Leftover]:
    """Yield users for whom the local campaign still has a history; raises ServiceUnavailable.

    To the emulator's model a user without history is like one that it has never seen.
    """

    def recommended(user: str) -> list[str]:
        with service_errors(f"get recommendations of {campaign}"):
            answer = runtime.get_recommendations(
                campaignArn=campaign, userId=user, numResults=items
            )
        return [item["itemId"] for item in answer["itemList"]]

    unknown = recommended(f"unknown-{secrets.token_hex(8)}")
    known = sum(recommended(user) != unknown for user in sorted(users)[:MAX_ASKED])
    if known:
        yield Leftover("recommendations", known, campaign, AGAIN)


def in_products(s3: Any, contracts: Contracts, users: Set[str]) -> Iterator[Leftover]:
    """Yield what the current data products have; raises ServiceUnavailable, ProductError."""
    columns = [(contract, contract.key) for contract in contracts.with_role(Role.USER)]
    columns += [(contract, USER_ID) for contract in contracts.with_role(Role.INTERACTION)]
    for contract, column in columns:
        location = Location.of(contract)
        try:
            manifest = read_manifest(s3, location)
        except NotPublished:
            continue
        reader = ProductReader(s3, location, manifest, [column])
        count = sum(
            value in users for batch in reader.batches() for value in batch.column(0).to_pylist()
        )
        if count:
            yield Leftover(
                f"product {contract.name}",
                count,
                f"version {manifest.version}",
                f"tunemesh export {contract.name}",
            )
