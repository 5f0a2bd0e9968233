"""Entries: the records of a source, before they are encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from schemas.invalid import Reason

Record = Mapping[str, Any]


class Kind(StrEnum):
    """What a publication is; the values are part of the ledger's format."""

    VALID = "valid"
    DUPLICATE = "duplicate"
    MALFORMED = "poison"
    VERSION = "version"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to publish on a domain's topic.

    ``record`` is None for a tombstone (a null value), then ``key`` has its key. For a
    malformed record, ``record`` is the valid record to corrupt, ``reason`` the dead letter's
    expected reason, and ``variant`` selects one of several ways to corrupt it; ``value`` are bytes
    to send instead. ``where`` names the line it came from.
    """

    domain: str
    record: Record | None
    kind: Kind
    key: str | None = None
    reason: Reason | None = None
    variant: int = 0
    where: str = ""
    value: bytes | None = None


@dataclass(frozen=True, slots=True, order=True)
class Scheduled:
    """An entry with the time at which it is due."""

    at_ms: int
    order: int
    entry: Entry


def merge_scheduled(
    interactions: Iterable[Entry], schedule: Iterable[Scheduled]
) -> Iterator[Entry]:
    """Yield interactions, and before each the scheduled entries that are due when it occurred."""
    scheduled = iter(schedule)
    due = next(scheduled, None)
    for entry in interactions:
        occurred_at = (entry.record or {}).get("occurred_at")
        while due is not None and isinstance(occurred_at, int) and due.at_ms <= occurred_at:
            yield due.entry
            due = next(scheduled, None)
        yield entry
    if due is not None:
        yield due.entry
    yield from (late.entry for late in scheduled)


class Source(Protocol):
    """A source of records for a replay."""

    @property
    def description(self) -> str:
        """A description for the ledger and the terminal."""

    @property
    def dimension_count(self) -> int:
        """Number of records of ``dimensions``."""

    @property
    def stream_count(self) -> int:
        """Number of records of ``stream``."""

    def dimensions(self) -> Iterator[Entry]:
        """Yield users and items as they are before the first interaction."""

    def stream(self) -> Iterator[Entry]:
        """Yield interactions in order, with dimension updates between them at their time."""


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A :class:`Source` that consists of functions."""

    description: str
    dimension_count: int
    stream_count: int
    dimensions: Callable[[], Iterator[Entry]]
    stream: Callable[[], Iterator[Entry]]
