"""How many events are at each destination, looked at again and again while a scenario runs."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.local.python_servers import AWS
from deploy.local.settings import BUCKET, LocalSettings

EVERY_SECONDS = 1.0

PERSONALIZE, FIREHOSE, OPENSEARCH = "PutEvents", "Firehose", "OpenSearch"
"""What events are delivered to."""

Counts = Mapping[str, int]
"""Distinct events by destination."""


@dataclass
class Arrivals:
    """Counts what is at the destinations; one that does not answer has what it had."""

    settings: LocalSettings
    _counts: dict[str, int] = field(default_factory=dict)
    _objects: set[str] = field(default_factory=set)
    _archived: set[str] = field(default_factory=set)

    def look(self) -> dict[str, int]:
        """The distinct events that each destination holds now."""
        for name, count in (
            (PERSONALIZE, self._accepted),
            (FIREHOSE, self._in_objects),
            (OPENSEARCH, self._indexed),
        ):
            with contextlib.suppress(OSError, HTTPException, ValueError):
                self._counts[name] = count()
        return dict(self._counts)

    def _accepted(self) -> int:
        stats = _call("GET", f"{self.settings.personalize.url}/_local/stats")
        # Two events that are one to the service: it has answered for both.
        return int(stats["accepted_events"]) + int(stats["identical_ignored"])

    def _in_objects(self) -> int:
        folder: Path = self.settings.data(AWS) / "s3" / BUCKET
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name in self._objects or path.name.endswith("%part"):
                continue
            self._archived |= {json.loads(line)["event_id"] for line in path.open("rb")}
            self._objects.add(path.name)
        return len(self._archived)

    def _indexed(self) -> int:
        index = f"{self.settings.opensearch.url}/tunemesh-events-*"
        _call("POST", f"{index}/_refresh")
        return int(_call("GET", f"{index}/_count")["count"])


def _call(method: str, url: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
        return json.load(answer)


@dataclass(frozen=True, slots=True)
class Beat:
    """What had arrived since the pulse began; seconds since the epoch."""

    at: float
    counts: Counts


class Pulse:
    """Looks at the arrivals every second, on a thread, from entering to leaving it."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._base = arrivals.look()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="pulse")
        self.beats: list[Beat] = [Beat(time.time(), dict.fromkeys(self._base, 0))]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            found = self._arrivals.look()
            counts = {name: found[name] - base for name, base in self._base.items()}
            self.beats.append(Beat(time.time(), counts))

    def rate(self, name: str, since: float, until: float) -> float:
        """Events a second that arrived at a destination between two moments."""
        within = [beat for beat in self.beats if since <= beat.at <= until]
        first, last = within[0], within[-1]
        return (last.counts[name] - first.counts[name]) / (last.at - first.at)


BEHIND_SECONDS = 3.0
"""Events on their way for less than that are not behind."""


def recovery_seconds(beats: list[Beat], sent: list[float], since: float) -> float:
    """Seconds from ``since`` until no destination was behind any more; pure.

    ``sent``: when each distinct event was published, in order. What never arrives (rejected) does
    not count: the reconciliation reports it.
    """
    late = since
    final = beats[-1].counts
    for beat in beats:
        due = sum(1 for moment in sent if moment <= beat.at - BEHIND_SECONDS)
        if any(count < min(due, final[name]) for name, count in beat.counts.items()):
            late = max(late, beat.at)
    return late - since
