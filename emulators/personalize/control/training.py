"""Trains a model on imported and put records.

Minimums from "Quotas" in the Amazon Personalize developer guide: 1,000 interactions, and 25 users
with two or more interactions, who are at least 1% of the users.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emulators.personalize.control.bulk import Bulk
from emulators.personalize.control.imports import ServerStopping
from emulators.personalize.model import Recommender, preference

MIN_INTERACTIONS: Final = 1_000
MIN_USERS: Final = 25
MIN_SHARE: Final = 0.01
MAX_INTERACTIONS: Final = 1_000_000
"""Default number of the newest interactions in a training."""

_ROWS_BETWEEN_CHECKS: Final = 10_000


class TrainingRefused(Exception):
    """A training fails; the message becomes the solution version's failureReason."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model, and the rowid of its last event."""

    model: Recommender
    last_event: int


def train(
    bulk: Bulk,
    put: Path,
    *,
    event_type: str | None = None,
    max_interactions: int = MAX_INTERACTIONS,
    needs_minimum: bool = True,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains on the imported records and on those in `put`, the database of put records.

    `event_type` restricts the training to one type. Raises TrainingRefused below the minimums, if
    they are needed, and ServerStopping.
    """
    execute = bulk.execute
    execute("ATTACH DATABASE ? AS put", (str(put),))
    try:
        ((last_event,),) = execute("SELECT coalesce(max(rowid), 0) FROM put.events")
        source = _interactions(bulk, last_event)
        values = () if event_type is None else (event_type,)
        if event_type is not None:
            source = f"SELECT * FROM ({source}) WHERE event_type = ? COLLATE NOCASE"
        if needs_minimum:
            _check(bulk, source, values)
        model = Recommender()
        for (item_id,) in execute("SELECT id FROM put.items ORDER BY rowid"):
            model.add_item(item_id)
        for item_id in bulk.ids("ITEMS"):
            model.add_item(item_id)
        newest = f"SELECT * FROM (SELECT * FROM ({source}) ORDER BY at DESC LIMIT ?) ORDER BY at"
        with closing(execute(newest, (*values, max_interactions))) as rows:
            for number, (listener, _, item_id, event, value, at) in enumerate(rows):
                model.observe(listener, item_id, preference(event, value), at)
                if number % _ROWS_BETWEEN_CHECKS == 0 and is_stopping():
                    raise ServerStopping
    finally:
        execute("DETACH DATABASE put")
    return Trained(model, last_event)


def _interactions(bulk: Bulk, last_event: int) -> str:
    """SQL of all interactions: listener, user, item, type, value, time (milliseconds)."""
    parts = [
        (
            "SELECT coalesce(user_id, session_id) AS listener, user_id, item_id, event_type, "
            "event_value, min(sent_at, accepted_at) AS at FROM put.events "
            f"WHERE rowid <= {last_event}"
        )
    ]
    parts += [
        f"SELECT USER_ID, USER_ID, ITEM_ID, coalesce({table.column('EVENT_TYPE')}, ''), "
        f"{table.column('EVENT_VALUE')}, TIMESTAMP * 1000 FROM {table.name}"
        for table in bulk.tables("INTERACTIONS")
    ]
    return " UNION ALL ".join(parts)


def _check(bulk: Bulk, source: str, values: tuple[str, ...]) -> None:
    ((interactions,),) = bulk.execute(f"SELECT count(*) FROM ({source})", values)
    if interactions < MIN_INTERACTIONS:
        raise TrainingRefused(
            f"There are {interactions} interactions to train on; at least {MIN_INTERACTIONS} are "
            "needed."
        )
    ((users, active),) = bulk.execute(
        "SELECT count(*), coalesce(sum(n >= 2), 0) FROM (SELECT count(*) AS n "
        f"FROM ({source}) WHERE user_id IS NOT NULL GROUP BY user_id)",
        values,
    )
    if active < MIN_USERS:
        raise TrainingRefused(
            f"{active} users have two or more interactions; at least {MIN_USERS} are needed."
        )
    if active < MIN_SHARE * users:
        raise TrainingRefused(
            f"{active} of {users} users have two or more interactions; at least {MIN_SHARE:.0%} is "
            "needed."
        )
