"""Reads the content of the local Personalize from its pages for tools."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

from schemas.errors import TunemeshError
from verification.reconcile import Accepted, Ignored

_ROWS = 10_000
_SECONDS = 30.0


class PersonalizeUnavailable(TunemeshError):
    """The local Personalize does not answer."""


class PersonalizeReader:
    """Reads the tables of the local Personalize; accepted and ignored events once each.

    ``group``: the name of the dataset group; by default the one that exists from the start.
    """

    def __init__(self, url: str, group: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._group = "" if group is None else f"&group={group}"
        self._after = {"events": 0, "ignored": 0}

    def accepted(self) -> Iterator[Accepted]:
        """Yield events accepted since the last call; raises PersonalizeUnavailable."""
        for row in self._new("events"):
            yield Accepted(row["event_id"], row["accepted_at"], row["duplicates"])

    def ignored(self) -> Iterator[Ignored]:
        """Yield events answered with 200 and not stored, since the last call."""
        for row in self._new("ignored"):
            yield Ignored(row["event_id"], row["reason"], row.get("same_as"))

    def duplicates(self) -> Iterator[tuple[str, int]]:
        """Yield accepted events with duplicates, and the number of duplicates."""
        for row in self._rows("events", 0):
            if row["duplicates"]:
                yield row["event_id"], row["duplicates"]

    def records(self, dataset: str) -> Iterator[tuple[str, str | None]]:
        """Yield id and properties of the present ``users`` or ``items``."""
        for row in self._rows(dataset, 0):
            yield row[f"{dataset.removesuffix('s')}_id"], row["properties"]

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield all present rows of a table, such as ``imported/interactions``."""
        return self._rows(table, 0)

    def _new(self, table: str) -> Iterator[dict[str, Any]]:
        for row in self._rows(table, self._after[table]):
            self._after[table] = row["rowid"]
            yield row

    def _rows(self, table: str, after: int) -> Iterator[dict[str, Any]]:
        while True:
            lines = self._get(
                f"/_local/{table}?after={after}&limit={_ROWS}{self._group}"
            ).splitlines()
            for line in lines:
                row: dict[str, Any] = json.loads(line)
                after = row["rowid"]
                yield row
            if len(lines) < _ROWS:
                return

    def _get(self, path: str) -> bytes:
        try:
            return http_content(f"{self._url}{path}")
        except (http.client.HTTPException, OSError) as error:
            raise PersonalizeUnavailable(
                f"the service personalize does not answer at {self._url} ({error})."
                " Start it: tunemesh up personalize"
            ) from None


def http_content(url: str, body: str | None = None, method: str = "GET") -> bytes:
    """Return the body of an answer with status 200; raises OSError and HTTPException."""
    data = None if body is None else body.encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        content: bytes = answer.read()
        return content
