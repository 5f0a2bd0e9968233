"""One training: bulk data and what was put -> a model.

Minimums from "Quotas" in the Amazon Personalize developer guide: 1000 interactions, 25 users with
two or more, who are at least one in a hundred of the users.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emulators.personalize.control.bulk import Bulk
from emulators.personalize.control.imports import Stopped
from emulators.personalize.model import Recommender, preference

LEAST_INTERACTIONS: Final = 1_000
LEAST_USERS: Final = 25
LEAST_SHARE: Final = 0.01
MOST_INTERACTIONS: Final = 1_000_000
"""How many of the newest interactions a model is made of, unless told otherwise."""

_ROWS_BETWEEN_LOOKS: Final = 10_000


class TrainingRefused(Exception):
    """Why a training fails; its text becomes the solution version's failureReason."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model, and the last event (rowid) that it has seen."""

    model: Recommender
    last_event: int


def train(
    bulk: Bulk,
    put: Path,
    *,
    event_type: str | None = None,
    most: int = MOST_INTERACTIONS,
    stopped: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains on what was imported and on what is in `put`, the file of events, users and items.

    With `event_type` on those alone. Raises TrainingRefused below the minimums, and Stopped.
    """
    execute = bulk.execute
    execute("ATTACH DATABASE ? AS put", (str(put),))
    try:
        ((last_event,),) = execute("SELECT coalesce(max(rowid), 0) FROM put.events")
        source = _interactions(bulk, last_event)
        values = () if event_type is None else (event_type,)
        if event_type is not None:
            source = f"SELECT * FROM ({source}) WHERE event_type = ? COLLATE NOCASE"
        _check(bulk, source, values)
        model = Recommender()
        for (item_id,) in execute("SELECT id FROM put.items ORDER BY rowid"):
            model.add_item(item_id)
        for item_id in bulk.ids("ITEMS"):
            model.add_item(item_id)
        newest = f"SELECT * FROM (SELECT * FROM ({source}) ORDER BY at DESC LIMIT ?) ORDER BY at"
        with closing(execute(newest, (*values, most))) as rows:
            for number, (listener, _, item_id, event, value, at) in enumerate(rows):
                model.observe(listener, item_id, preference(event, value), at)
                if number % _ROWS_BETWEEN_LOOKS == 0 and stopped():
                    raise Stopped
    finally:
        execute("DETACH DATABASE put")
    return Trained(model, last_event)


def _interactions(bulk: Bulk, last_event: int) -> str:
    """SQL for all interactions: listener, user, item, type, value, time (milliseconds)."""
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
    if interactions < LEAST_INTERACTIONS:
        raise TrainingRefused(
            f"There are {interactions} interactions to train on; {LEAST_INTERACTIONS} are needed."
        )
    ((users, active),) = bulk.execute(
        "SELECT count(*), coalesce(sum(n >= 2), 0) FROM (SELECT count(*) AS n "
        f"FROM ({source}) WHERE user_id IS NOT NULL GROUP BY user_id)",
        values,
    )
    if active < LEAST_USERS:
        raise TrainingRefused(
            f"{active} users have two or more interactions; {LEAST_USERS} such users are needed."
        )
    if active < LEAST_SHARE * users:
        raise TrainingRefused(
            f"{active} of {users} users have two or more interactions; at least one in a hundred "
            "is needed."
        )
