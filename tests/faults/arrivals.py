"""Counts the events at each destination while a scenario runs."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.python_servers import AWS
from deploy.local.settings import BUCKET, LocalSettings
from tests.faults.plans import call_json

SAMPLE_SECONDS = 1.0

PERSONALIZE, FIREHOSE, OPENSEARCH = "PutEvents", "Firehose", "OpenSearch"
"""The destinations of events."""

Counts = Mapping[str, int]
"""Distinct events by destination."""


@dataclass
class Arrivals:
    """The events at the destinations; a destination that does not respond keeps its last count."""

    settings: LocalSettings
    _counts: dict[str, int] = field(default_factory=dict)
    _objects: set[str] = field(default_factory=set)
    _archived: set[str] = field(default_factory=set)

    def count(self) -> dict[str, int]:
        """Return the number of distinct events at each destination."""
        for name, count in (
            (PERSONALIZE, self._count_accepted),
            (FIREHOSE, self._count_archived),
            (OPENSEARCH, self._count_indexed),
        ):
            with contextlib.suppress(OSError, HTTPException, ValueError):
                self._counts[name] = count()
        return dict(self._counts)

    def _count_accepted(self) -> int:
        stats = call_json("GET", f"{self.settings.personalize.url}/_local/stats")
        # The service has accepted both of two identical events.
        return int(stats["accepted_events"]) + int(stats["identical_ignored"])

    def _count_archived(self) -> int:
        folder: Path = self.settings.data(AWS) / "s3" / BUCKET
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name in self._objects or path.name.endswith("%part"):
                continue
            self._archived |= {json.loads(line)["event_id"] for line in path.open("rb")}
            self._objects.add(path.name)
        return len(self._archived)

    def _count_indexed(self) -> int:
        index = f"{self.settings.opensearch.url}/tunemesh-events-*"
        call_json("POST", f"{index}/_refresh")
        return int(call_json("GET", f"{index}/_count")["count"])


@dataclass(frozen=True, slots=True)
class Sample:
    """The arrivals since the start of the monitor, at a time in seconds since the epoch."""

    at: float
    counts: Counts


class ArrivalMonitor:
    """Counts the arrivals every second, in a thread, while the block of the context runs."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._base = arrivals.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="arrivals")
        self.samples: list[Sample] = [Sample(time.time(), dict.fromkeys(self._base, 0))]

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

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            total = self._arrivals.count()
            counts = {name: total[name] - base for name, base in self._base.items()}
            self.samples.append(Sample(time.time(), counts))

    def rate(self, name: str, since: float, until: float) -> float:
        """Return the events per second that arrived at a destination between two times."""
        samples = [sample for sample in self.samples if since <= sample.at <= until]
        first, last = samples[0], samples[-1]
        return (last.counts[name] - first.counts[name]) / (last.at - first.at)


MAX_DELAY_SECONDS = 3.0
"""A destination is behind if it lacks events that were published before this time."""


def recovery_seconds(samples: list[Sample], published: list[float], since: float) -> float:
    """Return the seconds from ``since`` until no destination was behind. Pure.

    ``published`` has the publication time of each distinct event, in order. Events that never
    arrive are not considered; the reconciliation reports them.
    """
    last_behind = since
    final = samples[-1].counts
    for sample in samples:
        due = sum(1 for time in published if time <= sample.at - MAX_DELAY_SECONDS)
        if any(count < min(due, final[name]) for name, count in sample.counts.items()):
            last_behind = max(last_behind, sample.at)
    return last_behind - since
