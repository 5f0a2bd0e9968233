"""The resources, in SQLite: what a call has been answered survives a kill.

Few rows, all of them in memory as well. Synchronous and owned by the event loop: a change is one
small transaction, and control-plane calls are rare.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from emulators.personalize.control.lifecycle import Resource

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    sequence INTEGER PRIMARY KEY,
    arn TEXT NOT NULL UNIQUE,
    resource TEXT NOT NULL
)
"""


class Registry:
    """The resources by ARN, in the order of their creation. Raises sqlite3.Error on a bad disk."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(_SCHEMA)
        self._resources: dict[str, Resource] = {}
        self._of_kind: defaultdict[str, dict[str, Resource]] = defaultdict(dict)
        rows = self._connection.execute("SELECT resource FROM resources ORDER BY sequence")
        for (text,) in rows:
            self._keep(Resource(**json.loads(text)))  # json reads its own Infinity

    def __len__(self) -> int:
        return len(self._resources)

    def get(self, arn: str) -> Resource | None:
        """The resource with this ARN."""
        return self._resources.get(arn)

    def of_kind(self, kind: str, parent: str | None = None) -> Iterator[Resource]:
        """The resources of a kind (and with a parent), the oldest first."""
        for resource in tuple(self._of_kind[kind].values()):
            if parent in (None, resource.parent):
                yield resource

    def put(self, *resources: Resource) -> None:
        """Stores the resources as they are now, in one transaction; durable on return."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for resource in resources:
                connection.execute(
                    "INSERT INTO resources (arn, resource) VALUES (?, ?) "
                    "ON CONFLICT (arn) DO UPDATE SET resource = excluded.resource",
                    (resource.arn, json.dumps(asdict(resource))),
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        for resource in resources:
            self._keep(resource)

    def remove(self, arn: str) -> None:
        """Forgets a resource; one that is not there is no error."""
        self._connection.execute("DELETE FROM resources WHERE arn = ?", (arn,))
        resource = self._resources.pop(arn, None)
        if resource is not None:
            del self._of_kind[resource.kind][arn]

    def _keep(self, resource: Resource) -> None:
        self._resources[resource.arn] = resource
        self._of_kind[resource.kind][resource.arn] = resource

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()
