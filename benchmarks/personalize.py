"""The local Personalize as a service to measure against: a process of its own, 20 ms an answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.processes import Started, last_lines, start
from deploy.local.settings import LocalSettings, aws_environment
from emulators.personalize.quota import DEFAULT_RATES
from emulators.personalize.rules import Resources

ANSWER_SECONDS = 0.02
START_SECONDS = 30.0
RESOURCES = Resources()
QUOTAS = DEFAULT_RATES
_ROWS = 10_000
_READY = re.compile(r"ready on (http://127\.0\.0\.1:\d+)")


@dataclass(frozen=True, slots=True)
class LocalPersonalize:
    """One that runs, with nothing stored at its start and the quotas of the service."""

    url: str

    def answer(self, operation: str, *, throttled: float = 0.0) -> None:
        """From now on: that share of the calls is throttled at once, the others take 20 ms."""
        rules = [{"operation": operation, "kind": "slow", "seconds": ANSWER_SECONDS}]
        if throttled:
            rules.insert(0, {"operation": operation, "kind": "throttle", "rate": throttled})
        self._request("/_local/faults", {"seed": 4, "rules": rules})

    def calls(self, operation: str) -> dict[str, Any]:
        """Counts of the operation: calls, succeeded, throttled (by the quota), refused, faults."""
        counts: dict[str, Any] = json.loads(self._request("/_local/stats"))["operations"][operation]
        return counts

    def rows(self, table: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """What is stored, in the order of its acceptance, beyond a rowid."""
        while lines := self._request(f"/_local/{table}?after={after}&limit={_ROWS}").splitlines():
            for line in lines:
                row: dict[str, Any] = json.loads(line)
                after = row["rowid"]
                yield row

    def _request(self, path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "PUT"
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content: bytes = answer.read()
                return content
        except (urllib.error.URLError, OSError) as error:
            raise BenchmarkError(
                f"the local Personalize at {self.url} does not answer: {error}"
            ) from error


@contextmanager
def local_personalize(folder: Path) -> Iterator[LocalPersonalize]:
    """Started on a free port with an empty data folder; stopped at the end, its data removed."""
    data, log = folder / "personalize", folder / "personalize.log"
    shutil.rmtree(data, ignore_errors=True)
    command = [sys.executable, "-m", "emulators.personalize", "--port", "0", "--data", str(data)]
    # Both clients, ours and boto3, find the same credentials; neither asks anything outside.
    os.environ.update(aws_environment(LocalSettings.from_environment(os.environ)))
    started = start([command], log, directory=Path(__file__).parents[1])
    try:
        yield LocalPersonalize(_url(started, log))
    finally:
        started.stop()
        shutil.rmtree(data, ignore_errors=True)


def _url(started: Started, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        started.check()
        if match := _READY.search(log.read_text()):
            return match[1]
        time.sleep(0.05)
    raise BenchmarkError(
        f"the local Personalize was not ready within {START_SECONDS:g} s. The end of {log}:\n"
        f"{last_lines(log)}"
    )
