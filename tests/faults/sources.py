"""Sources for a replay that are worse than a generated hour: restless, repeated, out of order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from verification.entries import Entry, Kind, Source
from verification.generator import GeneratedHour, Hour

CHANGE_EVERY, CHANGES = 250, 20
"""A restless hour has that many changes for so many interactions."""

DISORDER, REPEATED = 200, 0.3
"""Among how many neighbours a disordered hour mixes, and which share of the events comes twice."""


class RestlessHour:
    """A generated hour in which users and items also change right before they are played.

    So that an event that overtakes the newest version of its user or item does not go unnoticed.
    """

    def __init__(self, hour: Hour) -> None:
        self.hour = hour
        self._generated = GeneratedHour(hour)

    @property
    def description(self) -> str:
        """What it is, for the ledger."""
        return f"restless {self._generated.description}"

    @property
    def dimension_count(self) -> int:
        """Users and items, and the malformed records among them."""
        return self._generated.dimension_count

    @property
    def stream_count(self) -> int:
        """About as many as ``stream`` yields."""
        count = self._generated.stream_count
        return count + count // CHANGE_EVERY * CHANGES

    def dimensions(self) -> Iterator[Entry]:
        """Users and items as they are before the first interaction."""
        return self._generated.dimensions()

    def stream(self) -> Iterator[Entry]:
        """The interactions, before each few of them new versions of what they need."""
        for version, entries in enumerate(batched(self._generated.stream(), CHANGE_EVERY), 3):
            plays = [e.record for e in entries if e.kind is Kind.VALID and e.record]
            plays = plays[:: max(1, 2 * len(plays) // CHANGES)]
            for play in plays:
                yield from self._changes(play, version)
            yield from entries

    def _changes(self, play: Mapping[str, Any], version: int) -> Iterator[Entry]:
        hour, at_ms = self.hour, play["occurred_at"]
        known = (
            ("users", play["user_id"], hour.user_count, self._generated.user),
            ("songs", play["item_id"], hour.song_count, self._generated.song),
            ("podcasts", play["item_id"], hour.podcast_count, self._generated.podcast),
        )
        for domain, name, count, record in known:
            if name and name[0] == domain[0] and int(name[1:]) <= count:
                yield Entry(domain, record(int(name[1:]) - 1, version, at_ms), Kind.VERSION)


def batched(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """The entries in lists of ``size``, the last one shorter."""
    rest = iter(entries)
    while batch := list(islice(rest, size)):
        yield batch


class DisorderedHour(RestlessHour):
    """A restless hour whose interactions come in another order and partly twice.

    So do the versions of users and items: an older one may come after a newer.
    """

    @property
    def description(self) -> str:
        """What it is, for the ledger."""
        return f"disordered {super().description}"

    def stream(self) -> Iterator[Entry]:
        """The restless stream, mixed by a seed of the hour's."""
        chance = random.Random(f"{self.hour.seed} disorder")
        for entries in batched(super().stream(), DISORDER):
            again = [
                replace(entry, kind=Kind.DUPLICATE)
                for entry in entries
                if entry.kind is Kind.VALID and chance.random() < REPEATED
            ]
            mixed = [*entries, *again]
            chance.shuffle(mixed)
            yield from mixed


class WithMore:
    """A source with a few more entries, one after each hundred of its stream."""

    def __init__(self, source: Source, more: Sequence[Entry]) -> None:
        self._source = source
        self._more = more

    @property
    def description(self) -> str:
        """What it is, for the ledger."""
        return self._source.description

    @property
    def dimension_count(self) -> int:
        """Users and items before the first interaction."""
        return self._source.dimension_count

    @property
    def stream_count(self) -> int:
        """About as many as ``stream`` yields."""
        return self._source.stream_count + len(self._more)

    def dimensions(self) -> Iterator[Entry]:
        """Those of the source."""
        return self._source.dimensions()

    def stream(self) -> Iterator[Entry]:
        """The source's stream with the entries among it."""
        more = iter(self._more)
        for number, entry in enumerate(self._source.stream(), 1):
            yield entry
            if number % 100 == 0 and (added := next(more, None)) is not None:
                yield added
        yield from more
