"""Events that are published in the background until they are ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.model import Contracts
from verification.background import Background
from verification.endpoints import Endpoints
from verification.entries import Entry, Source
from verification.generator import GeneratedHour, Hour
from verification.publications import Publication
from verification.replay import (
    ReplayError,
    ReplaySettings,
    ReplaySummary,
    connect_registry,
    publisher_of,
    replay,
)

MAX_SECONDS = 3_600
"""Length of the generated stream."""


@dataclass(slots=True)
class Until:
    """A source that ends once ``ended`` is set."""

    source: Source
    ended: bool = False
    description: str = field(init=False)
    dimension_count: int = field(init=False)
    stream_count: int = field(init=False)

    def __post_init__(self) -> None:
        self.description = self.source.description
        self.dimension_count = self.source.dimension_count
        self.stream_count = self.source.stream_count

    def dimensions(self) -> Iterator[Entry]:
        """Yield those of the source."""
        return self.source.dimensions()

    def stream(self) -> Iterator[Entry]:
        """Yield those of the source until it is ended."""
        for entry in self.source.stream():
            if self.ended:
                return
            yield entry


class Flow:
    """A generated hour that is published in the background, at ``rate`` events a second.

    Construction returns when the first interactions are about to be published.
    """

    def __init__(self, endpoints: Endpoints, rate: float, contracts: Contracts, seed: int) -> None:
        events = round(rate * MAX_SECONDS)
        hour = Hour(events, seed=seed, users=2_000, songs=4_000, podcasts=500)
        self._source = Until(GeneratedHour(hour))
        self._ledger_contracts = contracts
        self._registry = connect_registry(endpoints)
        self._publisher = publisher_of(contracts, self._registry, contracts)
        flowing = threading.Event()
        self._replay = Background(
            lambda: replay(
                self._source,
                endpoints,
                ReplaySettings(rate=rate),
                contracts=contracts,
                publisher=self,
                before_interactions=flowing.set,
            )
        )
        while not flowing.wait(0.2):
            self.check()

    def check(self) -> None:
        """Raise the error that ended the events early; ReplayError if they ran out."""
        if not self._replay.running:
            self._replay.result()
            raise ReplayError(f"the events ran out after {MAX_SECONDS} s")

    def publication(self, entry: Entry, now_ms: int) -> Publication:
        """Return the publication of an entry under the present contracts."""
        return self._publisher.publication(entry, now_ms)

    def evolve(self, contracts: Contracts) -> None:
        """Publish with these contracts from now on; they must be registered."""
        self._publisher = publisher_of(contracts, self._registry, self._ledger_contracts)

    def end(self) -> ReplaySummary:
        """End the events; return when all are published."""
        self._source.ended = True
        summary: ReplaySummary = self._replay.result()
        return summary
