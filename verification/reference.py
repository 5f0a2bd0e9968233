"""The oracle: which versions of users and items an enriched event may have, in plain Python.

It shares only the contracts with the pipeline: the projection is implemented independently.

The rule. A version of a user or item is a record on a dimension topic; the order of versions is
updated_at (the Kafka timestamp where it is null), then offset, so an older one that arrives late
is never the newest. An event is published at P (its Kafka timestamp) and its enriched record
emitted at E (the broker's append time). The version attached must have been the newest published
at some time from P to E. No version may be attached if the newest was a deletion, or none was
published yet, at some time from P - 5 s to E.

Clocks. Timestamps are whole milliseconds, so two records of the same millisecond have no known
order: a version of millisecond P counts as published before and after P, one of millisecond E as
published before E, and one published exactly 5 s before P may still be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.model import Contract, ItemMapping, UserMapping

MISSING_TOLERANCE_MS = 5_000
"""A user or item published this long before an event must be attached."""


@dataclass(frozen=True, slots=True)
class Version:
    """A published version of a user or an item.

    ``published_ms`` is the Kafka timestamp; ``origin`` is topic/partition/offset; ``content`` is
    the projection expected on an enriched event, None for a deletion.
    """

    origin: str
    published_ms: int
    offset: int
    updated_at: int | None = None
    deleted: bool = False
    body: bytes | None = field(default=None, repr=False)

    @property
    def order(self) -> tuple[int, int]:
        """The sort key: the larger one is newer."""
        if self.updated_at is None:
            return self.published_ms, self.offset
        # No version is newer than its publication, whatever its producer's clock says.
        return min(self.updated_at, self.published_ms), self.offset


class History:
    """All versions of a user or item; ``uncertain`` if one was sent without an answer."""

    __slots__ = ("_newest", "_versions", "uncertain")

    def __init__(self, versions: Iterable[Version] = (), *, uncertain: bool = False) -> None:
        self._versions = sorted(versions, key=lambda v: (v.published_ms, v.offset))
        self._newest: list[Version] | None = None
        self.uncertain = uncertain

    def add(self, version: Version) -> None:
        """Add a version."""
        self._versions.append(version)
        self._versions.sort(key=lambda v: (v.published_ms, v.offset))
        self._newest = None

    def find(self, origin: str) -> Version | None:
        """Return the version at a position."""
        return next((v for v in self._versions if v.origin == origin), None)

    def newest_during(self, first_ms: int, last_ms: int) -> list[Version | None]:
        """Return the versions that were the newest at some time from ``first_ms`` to ``last_ms``.

        In order of time; None stands for the time before the first version. A version published in
        the millisecond ``first_ms`` was not yet published at its beginning.
        """
        if self._newest is None:
            self._newest = _running_newest(self._versions)
        states: list[Version | None] = [None]
        for version, newest in zip(self._versions, self._newest, strict=True):
            if version.published_ms < first_ms:
                states = [newest]
            elif version.published_ms > last_ms:
                break
            elif states[-1] is not newest:
                states.append(newest)
        return states


def _running_newest(versions: Sequence[Version]) -> list[Version]:
    newest: list[Version] = []
    for version in versions:
        if newest and newest[-1].order > version.order:
            newest.append(newest[-1])
        else:
            newest.append(version)
    return newest


NOTHING_PUBLISHED = History()


def find_problem(
    history: History,
    attached_origin: str | None,
    published_ms: int,
    emitted_ms: int,
    stale_tolerance_ms: int = 0,
) -> str | None:
    """Return what is wrong with the version attached to an event; None if it is right.

    ``attached_origin`` is None if no version is attached. ``stale_tolerance_ms`` moves the start of
    the interval back, for systems that guarantee less than the rule above.
    """
    if history.uncertain:
        return None
    if attached_origin is None:
        states = history.newest_during(published_ms - MISSING_TOLERANCE_MS, emitted_ms)
        if any(state is None or state.deleted for state in states):
            return None
        published = states[0]
        assert published is not None
        return (
            f"missing, although {published.origin} was published"
            f" {published_ms - published.published_ms} ms before the event"
        )
    attached = history.find(attached_origin)
    if attached is None:
        return f"{attached_origin} is not a version of it"
    states = history.newest_during(published_ms - stale_tolerance_ms, emitted_ms)
    if attached in states:
        if attached.deleted:
            return f"{attached_origin} is attached, but is a deletion"
        return None
    if attached.published_ms > emitted_ms:
        return f"{attached_origin} was published {attached.published_ms - emitted_ms} ms later"
    newest = states[0]
    if newest is None:  # pragma: no cover - a version published up to E is one of the states
        return f"{attached_origin} was not the newest"
    if newest.order > attached.order and newest.published_ms < attached.published_ms:
        return f"{attached_origin} is older than {newest.origin}, which was published before it"
    return (
        f"{attached_origin} is stale: {newest.origin} was published"
        f" {published_ms - newest.published_ms} ms before the event"
    )


def content_of(contract: Contract, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user or item of an enriched event, without its origin."""
    if contract.user is not None:
        return user_content(contract.user, record)
    assert contract.item is not None
    return item_content(contract.item, record)


def item_content(mapping: ItemMapping, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the item of an enriched event, without its origin."""
    creator = next((record[name] for name in mapping.creator if record[name]), None)
    length = record[mapping.duration] if mapping.duration else None
    return {
        "item_type": mapping.type,
        "title": record[mapping.title],
        "creator": creator,
        "genres": list(record[mapping.genres] or ()) if mapping.genres else [],
        "duration_ms": None if length is None else length * mapping.duration_unit_ms,
        "language": record[mapping.language] if mapping.language else None,
        "created_at": record[mapping.created] if mapping.created else None,
    }


def user_content(mapping: UserMapping, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user of an enriched event, without its origin."""
    named = {
        "country": mapping.country,
        "age_band": mapping.age_band,
        "subscription": mapping.subscription,
        "created_at": mapping.created,
    }
    return {name: record[source] if source else None for name, source in named.items()}


def differing_fields(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields that differ, sorted."""
    names = expected.keys() | actual.keys()
    absent = object()
    return sorted(n for n in names if expected.get(n, absent) != actual.get(n, absent))
