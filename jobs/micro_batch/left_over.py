"""A record that a micro-batch leaves over for a sink: as text, which left_over.sql cuts."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Sink(StrEnum):
    """The sinks of left-over records, by the letter that selects them in the SQL."""

    DEAD_LETTERS = "L"
    DELETIONS = "D"


class LeftOver(NamedTuple):
    """A record for a sink; ``key`` and ``value`` as Kafka gets them."""

    sink: Sink
    key: bytes | None
    value: bytes

    def render(self) -> str:
        """The record as text.

        The sink's letter, seven digits with the key's length (seven hyphens: no key), then key and
        value, a character a byte.
        """
        length = "-" * 7 if self.key is None else f"{len(self.key):07d}"
        return self.sink + length + ((self.key or b"") + self.value).decode("latin-1")
