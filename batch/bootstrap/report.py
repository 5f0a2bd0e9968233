"""The result of a bootstrap: counts, rejected rows by reason, whether a training is possible.

Pure. Minimums are those of "Preparing training data" in the Amazon Personalize developer guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from batch.bootstrap.rules import Reason
from batch.bootstrap.settings import Window
from batch.bootstrap.sql import ACTIVE, EARLIER, EVENT_TYPES, GOOD, LATER, LISTENERS

MIN_INTERACTIONS: Final = 1000
MIN_ACTIVE_USERS: Final = 25
"""Users with at least two interactions ..."""

MIN_ACTIVE_SHARE: Final = 100
"""... and one of this many users who have any."""

MAX_KINDS: Final = 10
"""Event types and metadata columns of interactions, together."""

SAMPLE: Final = 100
"""Rejected rows in the report; all of them are in rejected/."""

DATASETS: Final = ("users", "items", "interactions")

Counts = Mapping[tuple[str, str], int]
"""By product and reason (or statistic)."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts of a dataset. ``later``: interactions published at or after the window's end,
    which the stream delivers; ``earlier``: those before its begin, which an earlier run has
    imported. Both are neither read nor rejected."""

    read: int
    written: int
    rejected: int
    earlier: int = 0
    later: int = 0

    @property
    def rows(self) -> int:
        """All rows of the products."""
        return self.read + self.earlier + self.later


def tally(counts: Counts, products: Sequence[str]) -> Tally:
    """The counts of the dataset of these products."""
    of_these = {key: n for key, n in counts.items() if key[0] in products and key[1][0] != "@"}
    earlier = sum(n for (_, name), n in of_these.items() if name == EARLIER)
    later = sum(n for (_, name), n in of_these.items() if name == LATER)
    superseded = sum(n for (_, name), n in of_these.items() if name == Reason.SUPERSEDED)
    good = sum(n for (_, name), n in of_these.items() if name == GOOD)
    # A row that was superseded is counted among the good ones first.
    read = sum(of_these.values()) - superseded - earlier - later
    written = good - superseded
    return Tally(read, written, read - written, earlier, later)


def statistic(counts: Counts, name: str) -> int:
    """A statistic of the good interactions."""
    return sum(count for (_, key), count in counts.items() if key == name)


def training_problems(counts: Counts, interactions: int, metadata_columns: int) -> list[str]:
    """Why Personalize would reject a training with this; empty if it would not."""
    users, active = statistic(counts, LISTENERS), statistic(counts, ACTIVE)
    kinds = statistic(counts, EVENT_TYPES) + metadata_columns
    problems = []
    if interactions < MIN_INTERACTIONS:
        problems.append(
            f"{interactions} interactions can be imported, at least {MIN_INTERACTIONS} are needed"
        )
    if active < MIN_ACTIVE_USERS:
        problems.append(
            f"{active} users have two interactions or more, at least {MIN_ACTIVE_USERS} are needed"
        )
    if active * MIN_ACTIVE_SHARE < users:
        problems.append(
            f"{active} of {users} users have two interactions or more, at least 1% are needed"
        )
    if kinds > MAX_KINDS:
        problems.append(
            f"{kinds - metadata_columns} event types and {metadata_columns} metadata columns of"
            f" interactions are {kinds} together, at most {MAX_KINDS} are allowed"
        )
    return problems


def report(
    run: str,
    window: Window,
    versions: Mapping[str, str],
    datasets: Mapping[str, Tally],
    rejected: Iterable[Mapping[str, Any]],
    problems: Sequence[str],
) -> dict[str, Any]:
    """The report as JSON; ``rejected``: entries with dataset, product, reason and count, with the
    ids of some."""
    return {
        "run": run,
        "since": window.since,
        "until": window.until,
        "products": dict(versions),
        **{
            dataset: {
                name: count
                for name, count in asdict(tallied).items()
                if dataset == "interactions" or name not in ("earlier", "later")
            }
            for dataset, tallied in datasets.items()
        },
        "rejected": list(rejected),
        "trainable": not problems,
        "problems": list(problems),
    }
