"""What the local Personalize holds, read over its own pages for tools."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from schemas.errors import TunemeshError
from verification.reconcile import Accepted, Ignored

_ROWS = 10_000
_SECONDS = 30.0


class PersonalizeUnavailable(TunemeshError):
    """The local Personalize does not answer; the message says what to do."""


class PersonalizeReader:
    """Reads accepted and ignored events, each row once; ``duplicates`` reads the counts anew."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._after = {"events": 0, "ignored": 0}

    def accepted(self) -> Iterator[Accepted]:
        """Events accepted since the last call; raises PersonalizeUnavailable."""
        return map(_accepted, self._new("events"))

    def ignored(self) -> Iterator[Ignored]:
        """Events answered with 200 and left out, since the last call."""
        for row in self._new("ignored"):
            yield Ignored(row["event_id"], row["reason"], row.get("same_as"))

    def duplicates(self) -> Iterator[tuple[str, int]]:
        """Every accepted event that was repeated, and how often, as of now."""
        for row in self._rows("events", 0):
            if row["duplicates"]:
                yield row["event_id"], row["duplicates"]

    def records(self, dataset: str) -> Iterator[tuple[str, str | None]]:
        """Id and properties of the ``users`` or ``items`` as they stand now."""
        for row in self._rows(dataset, 0):
            yield row[f"{dataset.removesuffix('s')}_id"], row["properties"]

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """All rows of a table as they stand now, such as ``imported/interactions``."""
        return self._rows(table, 0)

    def _new(self, table: str) -> Iterator[dict[str, Any]]:
        for row in self._rows(table, self._after[table]):
            self._after[table] = row["rowid"]
            yield row

    def _rows(self, table: str, after: int) -> Iterator[dict[str, Any]]:
        while True:
            lines = self._get(f"/_local/{table}?after={after}&limit={_ROWS}").splitlines()
            for line in lines:
                row: dict[str, Any] = json.loads(line)
                after = row["rowid"]
                yield row
            if len(lines) < _ROWS:
                return

    def _get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=_SECONDS) as answer:
                content: bytes = answer.read()
                return content
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise PersonalizeUnavailable(
                f"the local Personalize does not answer at {self._url} ({error});"
                " run `tunemesh up`, or verify with --without-personalize"
            ) from None


def _accepted(row: dict[str, Any]) -> Accepted:
    return Accepted(row["event_id"], row["accepted_at"], row["duplicates"])
