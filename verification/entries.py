"""What a source hands to the replay: records before they are bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """One record to publish on a domain's topic.

    ``record`` is None for a tombstone (a null value), then ``key`` has its key. For a
    malformed record, ``record`` is the valid record to corrupt, ``reason`` the dead letter's
    expected reason, and ``variant`` selects one of several ways to corrupt it. ``where`` names the
    line it came from.
    """

    domain: str
    record: Record | None
    kind: Kind
    key: str | None = None
    reason: Reason | None = None
    variant: int = 0
    where: str = ""


class Source(Protocol):
    """Where the records of a replay come from."""

    @property
    def description(self) -> str:
        """What it is, for the ledger and the terminal."""

    @property
    def dimension_count(self) -> int:
        """Records that ``dimensions`` yields."""

    @property
    def stream_count(self) -> int:
        """Records that ``stream`` yields."""

    def dimensions(self) -> Iterator[Entry]:
        """Users and items as they are before the first interaction."""

    def stream(self) -> Iterator[Entry]:
        """Interactions in line order, dimension updates between them at their moment."""
