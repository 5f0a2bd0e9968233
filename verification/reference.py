"""What an enriched event may carry, in plain Python: the oracle that the pipeline is held to.

Shares nothing with the pipeline but the contracts: the projection is written anew here.

The rule. A version of a user or item is a record on a dimension topic; the order of versions is
updated_at (the Kafka timestamp where it is null), then offset, so an older one that arrives late
is never the newest. An event is published at P (its Kafka timestamp) and its enriched record
emitted at E (the broker's append time). The version attached must have been the newest published
at some moment from P to E. Nothing attached is right when the newest was a deletion, or there was
none yet, at some moment from P - 5 s to E.

Clocks. Timestamps are whole milliseconds, so two records of the same millisecond have no known
order: a version of millisecond P counts as published before and after P, one of millisecond E as
published before E, and one published exactly 5 s before P may still be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.model import ItemMapping, UserMapping

MISSING_TOLERANCE_MS = 5_000
"""A user or item published this long before an event must be there (issue: 5 s or more)."""


@dataclass(frozen=True, slots=True)
class Version:
    """One published version of a user or an item.

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
        """Versions compare by this; the larger one is newer."""
        moment = self.published_ms if self.updated_at is None else self.updated_at
        return moment, self.offset


class History:
    """All versions of one user or item; ``uncertain`` when one was sent without an answer."""

    __slots__ = ("_newest", "_versions", "uncertain")

    def __init__(self, versions: Iterable[Version] = (), *, uncertain: bool = False) -> None:
        self._versions = sorted(versions, key=lambda v: (v.published_ms, v.offset))
        self._newest: list[Version] | None = None
        self.uncertain = uncertain

    def add(self, version: Version) -> None:
        """One version more."""
        self._versions.append(version)
        self._versions.sort(key=lambda v: (v.published_ms, v.offset))
        self._newest = None

    def find(self, origin: str) -> Version | None:
        """The version read from that position."""
        return next((v for v in self._versions if v.origin == origin), None)

    def newest_during(self, first_ms: int, last_ms: int) -> list[Version | None]:
        """Which versions were the newest at some moment from ``first_ms`` to ``last_ms``.

        In order of time; None stands for a moment before the first version. Versions published in
        the very millisecond ``first_ms`` count as not yet there at its beginning.
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


def judge(
    history: History,
    attached_origin: str | None,
    published_ms: int,
    emitted_ms: int,
    stale_tolerance_ms: int = 0,
) -> str | None:
    """What is wrong with the version attached to an event, None when it is right.

    ``attached_origin`` is None when nothing is attached. ``stale_tolerance_ms`` moves the beginning
    of the interval back, for systems that promise less than the rule above.
    """
    if history.uncertain:
        return None
    if attached_origin is None:
        states = history.newest_during(published_ms - MISSING_TOLERANCE_MS, emitted_ms)
        if any(state is None or state.deleted for state in states):
            return None
        there = states[0]
        assert there is not None
        return (
            f"missing, though {there.origin} was published"
            f" {published_ms - there.published_ms} ms before the event"
        )
    attached = history.find(attached_origin)
    if attached is None:
        return f"{attached_origin} is not a version of it"
    states = history.newest_during(published_ms - stale_tolerance_ms, emitted_ms)
    if attached in states:
        if attached.deleted:
            return f"{attached_origin} is a deletion, yet it is attached"
        return None
    if attached.published_ms > emitted_ms:
        return f"{attached_origin} was published {attached.published_ms - emitted_ms} ms later"
    newest = states[0]
    if newest is None:  # pragma: no cover - a version published up to E is one of the states
        return f"{attached_origin} was not the newest"
    if newest.order > attached.order and newest.published_ms < attached.published_ms:
        return f"{attached_origin} is older than {newest.origin}, which was there before it"
    return (
        f"{attached_origin} is stale: {newest.origin} was published"
        f" {published_ms - newest.published_ms} ms before the event"
    )


def item_content(mapping: ItemMapping, record: Mapping[str, Any]) -> dict[str, Any]:
    """What an enriched event must say of an item, without its origin."""
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
    """What an enriched event must say of a user, without its origin."""
    named = {
        "country": mapping.country,
        "age_band": mapping.age_band,
        "subscription": mapping.subscription,
        "created_at": mapping.created,
    }
    return {name: record[source] if source else None for name, source in named.items()}


def differing(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Names of the fields that are not as expected, sorted."""
    names = expected.keys() | found.keys()
    absent = object()
    return sorted(n for n in names if expected.get(n, absent) != found.get(n, absent))
