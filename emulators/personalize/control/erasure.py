"""A data deletion job: users, and everything of them, out of the data of a dataset group.

Rules of "Deleting users and their data with a data deletion job" in the developer guide. The models
are trained again without the users; with imports that are newer than a model, so a little more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from emulators.personalize import store
from emulators.personalize.control.bulk import Bulk
from emulators.personalize.control.csv_rules import ImportRefused, read_batches
from emulators.personalize.control.schemas import DatasetSchema, Field
from emulators.personalize.control.source import Source
from emulators.personalize.store import Totals

MAX_BYTES: Final = 50 * 1024**2
_SCHEMA: Final = DatasetSchema("USERS", (Field("USER_ID", "string", False, False, False),))


def read_users(location: str, source: Source) -> frozenset[str]:
    """The ids in the CSV files; raises ImportRefused with the reason."""
    objects = source.list_objects(location)
    size = sum(csv_object.size for csv_object in objects)
    if size > MAX_BYTES:
        raise ImportRefused(
            f"{location} has {size} bytes; a data deletion job may have at most {MAX_BYTES}."
        )
    users = frozenset(
        row[0]
        for csv_object in objects
        for batch in read_batches(source.read_lines(csv_object), _SCHEMA, csv_object.uri)
        for row in batch
    )
    if not users:
        raise ImportRefused(f"{location} has no rows.")
    return users


def erase(users: frozenset[str], put: Path, bulk: Bulk) -> tuple[Totals, int]:
    """Remove the users and their interactions; returns the counts of put rows and of imported ones.

    Idempotent: what a killed job has removed is removed.
    """
    return store.erase_users(put, users), bulk.erase_users(users)
