"""Events that flow beside something else, and end when they are told to."""

from __future__ import annotations

import time
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

LONGEST_SECONDS = 3_600
"""Events are generated for so long."""


@dataclass(slots=True)
class Until:
    """A source that ends when it is told to."""

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
        """Those of the source."""
        return self.source.dimensions()

    def stream(self) -> Iterator[Entry]:
        """Those of the source until the end."""
        for entry in self.source.stream():
            if self.ended:
                return
            yield entry


class Flow:
    """A generated hour, published at a rate (events a second) beside everything else.

    Returns from its making when the first interactions are about to be published.
    """

    def __init__(self, endpoints: Endpoints, rate: float, contracts: Contracts, seed: int) -> None:
        events = round(rate * LONGEST_SECONDS)
        hour = Hour(events, seed=seed, users=2_000, songs=4_000, podcasts=500)
        self._source = Until(GeneratedHour(hour))
        self._ledger_contracts = contracts
        self._registry = connect_registry(endpoints)
        self._publisher = publisher_of(contracts, self._registry, contracts)
        flowing: list[float] = []
        self._replay = Background(
            lambda: replay(
                self._source,
                endpoints,
                ReplaySettings(rate=rate),
                contracts=contracts,
                publisher=self,
                before_interactions=lambda: flowing.append(time.time()),
            )
        )
        while not flowing:
            self.check()
            time.sleep(0.2)

    def check(self) -> None:
        """Raises what has ended the events before their time; ReplayError if they ran out."""
        if not self._replay.running:
            self._replay.result()
            raise ReplayError(f"the events ended by themselves, after {LONGEST_SECONDS} s")

    def publication(self, entry: Entry, now_ms: int) -> Publication:
        """As the producers publish at this moment."""
        return self._publisher.publication(entry, now_ms)

    def evolve(self, contracts: Contracts) -> None:
        """Go on as producers with these contracts, which are registered."""
        self._publisher = publisher_of(contracts, self._registry, self._ledger_contracts)

    def end(self) -> ReplaySummary:
        """No more events; returns when all that were begun are published."""
        self._source.ended = True
        summary: ReplaySummary = self._replay.result()
        return summary
