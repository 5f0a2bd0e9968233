"""The resources in SQLite: acknowledged changes survive a kill.

The few rows are also held in memory. Synchronous and owned by the event loop: a change is one small
transaction, and control-plane calls are rare.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from emulators.personalize.control.lifecycle import Resource
from emulators.personalize.sqlite import connect, transaction

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
        self._connection = connect(path)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(_SCHEMA)
        self._resources: dict[str, Resource] = {}
        self._of_kind: defaultdict[str, dict[str, Resource]] = defaultdict(dict)
        rows = self._connection.execute("SELECT resource FROM resources ORDER BY sequence")
        for (text,) in rows:
            self._keep(Resource(**json.loads(text)))  # Python's json reads Infinity

    def __len__(self) -> int:
        return len(self._resources)

    def get(self, arn: str) -> Resource | None:
        """The resource with this ARN."""
        return self._resources.get(arn)

    def of_kind(self, kind: str, parent: str | None = None) -> Iterator[Resource]:
        """The resources of a kind (and of a parent), oldest first."""
        for resource in tuple(self._of_kind[kind].values()):
            if parent in (None, resource.parent):
                yield resource

    def put(self, *resources: Resource) -> None:
        """Stores the resources in one transaction; durable on return."""
        with transaction(self._connection):
            for resource in resources:
                self._connection.execute(
                    "INSERT INTO resources (arn, resource) VALUES (?, ?) "
                    "ON CONFLICT (arn) DO UPDATE SET resource = excluded.resource",
                    (resource.arn, json.dumps(asdict(resource))),
                )
        for resource in resources:
            self._keep(resource)

    def remove(self, arn: str) -> None:
        """Removes a resource, if it exists."""
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
