"""Events that are published in the background until they are ended."""

from __future__ import annotations

import threading
from itertools import takewhile

from schemas.model import Contracts
from verification.background import run_in_background
from verification.endpoints import Endpoints
from verification.entries import Entry, FunctionSource, Source
from verification.generator import GeneratedHour, Hour
from verification.publications import Publication
from verification.replay import (
    ReplayError,
    ReplaySettings,
    ReplaySummary,
    connect_registry,
    create_publisher,
    replay,
)

MAX_SECONDS = 3_600
"""Length of the generated stream."""


def until_set(source: Source, ended: threading.Event) -> Source:
    """Return a source that ends once ``ended`` is set."""
    return FunctionSource(
        source.description,
        source.dimension_count,
        source.stream_count,
        source.dimensions,
        lambda: takewhile(lambda _: not ended.is_set(), source.stream()),
    )


class Flow:
    """A generated hour that is published in the background, at ``rate`` events a second.

    Construction returns when the first interactions are about to be published.
    """

    def __init__(self, endpoints: Endpoints, rate: float, contracts: Contracts, seed: int) -> None:
        events = round(rate * MAX_SECONDS)
        hour = Hour(events, seed=seed, users=2_000, songs=4_000, podcasts=500)
        self._ended = threading.Event()
        source = until_set(GeneratedHour(hour), self._ended)
        self._ledger_contracts = contracts
        self._registry = connect_registry(endpoints)
        self._publisher = create_publisher(contracts, self._registry, contracts)
        flowing = threading.Event()
        self._replay = run_in_background(
            lambda: replay(
                source,
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
        if self._replay.done():
            self._replay.result()
            raise ReplayError(f"the events ran out after {MAX_SECONDS} s")

    def create_publication(self, entry: Entry, now_ms: int) -> Publication:
        """Return the publication of an entry under the present contracts."""
        return self._publisher.create_publication(entry, now_ms)

    def evolve(self, contracts: Contracts) -> None:
        """Publish with these contracts from now on; they must be registered."""
        self._publisher = create_publisher(contracts, self._registry, self._ledger_contracts)

    def end(self) -> ReplaySummary:
        """End the events; return when all are published."""
        self._ended.set()
        return self._replay.result()
