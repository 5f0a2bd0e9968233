"""Sources of a replay with frequent changes, duplicates and disorder."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from verification.entries import Entry, Kind, Source
from verification.generator import GeneratedHour, Hour

CHANGE_INTERVAL, CHANGES = 250, 20
"""A changing hour has 20 changes before every 250 interactions."""

SHUFFLED, DUPLICATED_SHARE = 200, 0.3
"""A disordered hour shuffles 200 entries at a time and duplicates 30% of the events."""


class ChangingHour:
    """A generated hour in which users and items also change directly before they are played.

    An event that overtakes the newest version of its user or item is therefore detected.
    """

    def __init__(self, hour: Hour) -> None:
        self.hour = hour
        self._generated = GeneratedHour(hour)

    @property
    def description(self) -> str:
        """The description for the ledger."""
        return f"changing {self._generated.description}"

    @property
    def dimension_count(self) -> int:
        """The number of users and items, including malformed records."""
        return self._generated.dimension_count

    @property
    def stream_count(self) -> int:
        """The approximate number of entries of the stream."""
        count = self._generated.stream_count
        return count + count // CHANGE_INTERVAL * CHANGES

    def dimensions(self) -> Iterator[Entry]:
        """Yield the users and items before the first interaction."""
        return self._generated.dimensions()

    def stream(self) -> Iterator[Entry]:
        """Yield the interactions, each group after new versions of its users and items."""
        for version, entries in enumerate(batched(self._generated.stream(), CHANGE_INTERVAL), 3):
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
    """Yield the entries in lists of ``size``; the last one may be shorter."""
    remaining = iter(entries)
    while batch := list(islice(remaining, size)):
        yield batch


class DisorderedHour(ChangingHour):
    """A changing hour whose entries are shuffled, with duplicated events.

    An older version of a user or item may follow a newer one.
    """

    @property
    def description(self) -> str:
        """The description for the ledger."""
        return f"disordered {super().description}"

    def stream(self) -> Iterator[Entry]:
        """Yield the shuffled stream, which depends on the seed of the hour."""
        generator = random.Random(f"{self.hour.seed} disorder")
        for entries in batched(super().stream(), SHUFFLED):
            duplicates = [
                replace(entry, kind=Kind.DUPLICATE)
                for entry in entries
                if entry.kind is Kind.VALID and generator.random() < DUPLICATED_SHARE
            ]
            shuffled = [*entries, *duplicates]
            generator.shuffle(shuffled)
            yield from shuffled


class WithExtraEntries:
    """A source with extra entries, one after every 100 entries of its stream."""

    def __init__(self, source: Source, extra: Sequence[Entry]) -> None:
        self._source = source
        self._extra = extra

    @property
    def description(self) -> str:
        """The description for the ledger."""
        return self._source.description

    @property
    def dimension_count(self) -> int:
        """The number of users and items before the first interaction."""
        return self._source.dimension_count

    @property
    def stream_count(self) -> int:
        """The approximate number of entries of the stream."""
        return self._source.stream_count + len(self._extra)

    def dimensions(self) -> Iterator[Entry]:
        """Yield the users and items of the source."""
        return self._source.dimensions()

    def stream(self) -> Iterator[Entry]:
        """Yield the stream of the source with the extra entries."""
        extra = iter(self._extra)
        for number, entry in enumerate(self._source.stream(), 1):
            yield entry
            if number % 100 == 0 and (added := next(extra, None)) is not None:
                yield added
        yield from extra
