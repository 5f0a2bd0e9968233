"""Anomalies in a stream of interactions: duplicates, late events, malformed records. Pure."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from verification.entries import Entry, Kind
from verification.malformed import INTERACTION_REASONS

MAX_LATE_MS = 30_000
DUPLICATE_SHARE = 0.005
LATE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Anomalies:
    """Which anomalies: the same seed gives the same; shares are of the valid interactions."""

    seed: int = 1
    malformed_share: float = 0.01

    def count(self, interactions: int) -> int:
        """Return the approximate number of additional records."""
        return int(interactions * DUPLICATE_SHARE) + int(interactions * self.malformed_share)


class EvenShare:
    """Returns True for a share of the calls, evenly spaced, so that counts are exact."""

    def __init__(self, share: float, phase: float) -> None:
        self._share = share
        self._sum = phase

    def __call__(self) -> bool:
        self._sum += self._share
        if self._sum >= 1:
            self._sum -= 1
            return True
        return False


def add_anomalies(entries: Iterable[Entry], anomalies: Anomalies) -> Iterator[Entry]:
    """Yield entries with duplicates and malformed records between them, and some of them late.

    Late ones and half of the duplicates come when an interaction occurred up to 30 s later.
    Memory: those of 30 s.
    """
    # The text seeds the sequence: another one would change what a seed generates.
    chance = random.Random(f"{anomalies.seed} dirt")
    is_duplicate = EvenShare(DUPLICATE_SHARE, chance.random())
    is_late = EvenShare(LATE_SHARE, chance.random())
    is_malformed = EvenShare(anomalies.malformed_share, chance.random())
    delayed: list[tuple[int, int, Entry]] = []
    order = turn = repeated = 0
    for entry in entries:
        event = entry.record
        if entry.kind is not Kind.VALID or event is None:
            yield entry
            continue
        now = event.get("occurred_at")
        if not isinstance(now, int):
            yield entry
            continue
        while delayed and delayed[0][0] <= now:
            yield heapq.heappop(delayed)[2]
        order += 1
        if is_late():
            release = now + chance.randrange(1_000, MAX_LATE_MS - 1_000)
            heapq.heappush(delayed, (release, order, entry))
            continue
        yield entry
        if is_duplicate():
            repeated += 1
            again = replace(entry, kind=Kind.DUPLICATE)
            if repeated % 2:
                yield again
            else:
                release = now + chance.randrange(1_000, MAX_LATE_MS - 1_000)
                heapq.heappush(delayed, (release, order, again))
        if is_malformed():
            yield replace(
                entry,
                record={**event, "event_id": f"{event['event_id'][:-1]}!"},
                kind=Kind.MALFORMED,
                reason=INTERACTION_REASONS[turn % len(INTERACTION_REASONS)],
                variant=turn // len(INTERACTION_REASONS),
            )
            turn += 1
    while delayed:
        yield heapq.heappop(delayed)[2]
