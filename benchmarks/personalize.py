"""The emulator of Personalize as a service to measure against, with a response time of 20 ms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.services import run_empty
from deploy.local import python_servers
from emulators.personalize.quota import DEFAULT_RATES
from emulators.personalize.rules import Resources
from verification.personalize_events import PersonalizeReader, http_content

RESPONSE_SECONDS = 0.02
RESOURCES = Resources()
QUOTAS = DEFAULT_RATES


@dataclass(frozen=True, slots=True)
class Personalize:
    """A running emulator without stored data, with the quotas of the service."""

    url: str

    def set_responses(self, operation: str, *, throttled: float = 0.0) -> None:
        """Throttle this fraction of the calls of an operation; the others take 20 ms."""
        rules = [{"operation": operation, "kind": "slow", "seconds": RESPONSE_SECONDS}]
        if throttled:
            rules.insert(0, {"operation": operation, "kind": "throttle", "rate": throttled})
        self._request("/_local/faults", {"seed": 4, "rules": rules})

    def count_calls(self, operation: str) -> dict[str, Any]:
        """Return the counts of an operation: calls, succeeded, throttled, refused, faults."""
        counts: dict[str, Any] = json.loads(self._request("/_local/stats"))["operations"][operation]
        return counts

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield the stored rows of a table, in the order of their acceptance."""
        return PersonalizeReader(self.url).rows(table)

    def _request(self, path: str, body: object = None) -> bytes:
        sent = (None, "GET") if body is None else (json.dumps(body), "PUT")
        try:
            return http_content(f"{self.url}{path}", *sent)
        except (HTTPException, OSError) as error:
            raise BenchmarkError(
                f"the emulator of Personalize does not respond at {self.url}: {error}"
            ) from error


@contextmanager
def run_personalize(home: Path) -> Iterator[Personalize]:
    """Run the emulator on a free port, without data, until the block ends."""
    with run_empty(home, python_servers.PERSONALIZE) as settings:
        yield Personalize(settings.personalize.url)
