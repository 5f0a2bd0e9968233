"""A platform with all three pipelines, for several scenarios.

A scenario replays a short source, injects a fault, removes it, waits until everything is delivered,
and reconciles every destination. Destinations are reconciled with all runs, so each scenario also
verifies the records of the previous ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.local import application
from deploy.local.settings import LocalSettings
from jobs.settings import PIPELINES
from tests.faults.arrivals import ArrivalMonitor, Arrivals, recovery_seconds
from tests.faults.opensearch_proxy import OpenSearchProxy
from tests.faults.plans import FaultPlans, ServiceFaults
from tests.faults.results import check_clean, write_result
from tests.faults.sources import ChangingHour, WithExtraEntries
from tests.faults.stage import RECONCILE_SECONDS, START_SECONDS, Stage
from tests.support.waiting import wait_until
from verification.destinations import Topics, verify_destinations
from verification.entries import Entry, Kind, Source
from verification.generator import Hour
from verification.ledger import Ledger
from verification.positions import ProducerFactory, create_producer
from verification.replay import ReplaySummary
from verification.verify import VerifyReport

SECONDS, RATE = 15, 200
"""Duration and rate of the events of a scenario."""

PARALLELISM = 2
"""Of each application."""

STALE_TOLERANCE_MS = 5_000
"""The age of an attached user or item that is allowed on an overloaded machine, as during restarts.
Tests with a platform of their own allow less."""

DAY_MS = 86_400_000

PERSONALIZE, FIREHOSE, OPENSEARCH = "personalize", "firehose", "opensearch"

Rejection = tuple[str, str]
"""A service and a rejected record: the id of an event, or the key of a user or item."""


class FullStage(Stage):
    """A stage with all pipelines; OpenSearch is behind a proxy that fails on demand.

    ``applications`` has the pipelines of each application, by default one application for all.
    """

    def __init__(
        self,
        settings: LocalSettings,
        environ: Mapping[str, str],
        proxy_port: int,
        applications: tuple[tuple[str, ...], ...] = (PIPELINES,),
    ) -> None:
        super().__init__(settings, environ)
        self.stale_tolerance_ms = STALE_TOLERANCE_MS
        self.applications = applications
        self.jobs: list[str] = []
        self.pipelines = PIPELINES
        self.proxy = OpenSearchProxy(settings.opensearch.url, proxy_port)
        self.faults: Mapping[str, FaultPlans] = {
            PERSONALIZE: self.personalize_faults,
            FIREHOSE: ServiceFaults(settings.aws.url),
            OPENSEARCH: self.proxy,
        }
        self.overrides = {"tunemesh.analytics": {"opensearch.endpoint.url": self.proxy.url}}
        self.arrivals = Arrivals(settings)
        self.scenarios = 0
        self._reported: set[tuple[Any, ...]] = set()

    def begin(self) -> None:
        """Start the platform and the applications."""
        self.proxy.open()
        self.start_platform()
        self.resubmit(None)

    def end(self) -> None:
        """Close the proxy."""
        self.proxy.close()

    def resubmit(
        self, savepoint: str | None, overrides: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """Submit all applications; a savepoint or checkpoint requires a single application."""
        self.jobs = [
            application.submit(
                self.settings,
                pipelines,
                {**self.overrides, **(overrides or {})},
                savepoint=savepoint,
                environ=self.environ,
                wait=False,
                parallelism=PARALLELISM,
            )
            for pipelines in self.applications
        ]
        self.job = self.jobs[0]
        for job in self.jobs:
            self.rest.wait_running(job, START_SECONDS)

    def failures_since(self, time: float) -> list[str]:
        """Return the reasons of failures since a time (seconds since the epoch), newest first."""
        answers = [self.rest.call("GET", f"/jobs/{job}/exceptions") for job in self.jobs]
        return [
            entry["stacktrace"]
            for answer in answers
            for entry in answer["exceptionHistory"]["entries"]
            if entry["timestamp"] >= time * 1000
        ]

    def attempts(self) -> dict[str, int]:
        """Return the highest number of attempts of the subtasks of each vertex."""
        attempts: dict[str, int] = {}
        for job in self.jobs:
            for vertex in self.rest.vertices(job):
                answer = self.rest.call("GET", f"/jobs/{job}/vertices/{vertex.id}")
                attempts[f"{job}/{vertex.id} {vertex.name}"] = 1 + max(
                    task["attempt"] for task in answer["subtasks"]
                )
        return attempts

    def new_rejections(self) -> set[Rejection]:
        """Return the rejections since the last call, from the dead letters."""
        registry = application.connect_registry(self.settings)
        dead_letters = Topics(self.endpoints, self.contracts, registry).dead_letters()
        rejections = {
            (letter["topic"], letter["partition"], letter["offset"], letter["error_code"]): (
                letter["error_code"].partition(".")[0],
                letter["event_id"] or (letter["key"] or b"").decode(),
            )
            for letter in dead_letters
            if letter["step"] == "deliver"
        }
        new = {value for key, value in rejections.items() if key not in self._reported}
        self._reported |= rejections.keys()
        return new

    def wait_datasets(self) -> float:
        """Wait until the newest users and items are delivered; returns the time."""
        registry = application.connect_registry(self.settings)
        verify_destinations(
            self.endpoints, ["datasets"], self.contracts, registry, RECONCILE_SECONDS
        )
        return time.time()


@dataclass
class Flow:
    """The running replay of a scenario, and its fault."""

    stage: FullStage
    began: float
    running: Future[ReplaySummary]
    monitor: ArrivalMonitor
    lifted: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    """The number of restarts of the job, at the end of the scenario."""

    def wait_sent(self) -> ReplaySummary:
        """Wait until all events are published."""
        return self.running.result(timeout=600)

    def lift(self) -> None:
        """Record the end of the fault, from which the recovery is measured."""
        self.lifted = time.time()

    def wait_failed(self, *texts: str) -> None:
        """Wait until the job has failed with all of these texts in the reason."""

        def has_failed() -> bool:
            reasons = self.stage.failures_since(self.began)
            return any(all(text in reason for text in texts) for reason in reasons)

        seconds = wait_until(has_failed, f"the job fails with {texts}", START_SECONDS)
        self.notes["told_after_s"] = round(seconds, 1)


@contextmanager
def scenario(
    stage: FullStage,
    name: str,
    *,
    seed: int,
    seconds: int = SECONDS,
    rate: int = RATE,
    source: Callable[[Hour], Source] = ChangingHour,
    extra: Callable[[Hour], Sequence[Entry]] = lambda _: (),
    producer: ProducerFactory = create_producer,
    rejected: frozenset[Rejection] = frozenset(),
    datasets: bool = False,
    days_ago: int = 0,
) -> Iterator[Flow]:
    """Replay while the block runs, which begins when events are enriched; then reconcile.

    ``extra``: additional entries for the hour. ``rejected``: the expected rejections. ``datasets``:
    the recovery includes users and items. ``days_ago``: the age of the events.
    """
    stage.scenarios += 1
    start_ms = time.time_ns() // 1_000_000 - days_ago * DAY_MS
    hour = Hour(
        interactions=seconds * rate,
        start_ms=start_ms,
        span_ms=1000 * seconds,
        seed=seed,
        anomalies=True,
    )
    entries = WithExtraEntries(source(hour), extra(hour))
    began = time.time()
    with (
        ArrivalMonitor(stage.arrivals) as monitor,
        stage.replaying_source(entries, rate, producer) as running,
    ):
        flow = Flow(stage, began, running, monitor)
        yield flow
        published = publication_times(flow.wait_sent())
        assert flow.lifted is not None, "the scenario has not called lift()"
        delivered_at = flow.lifted
        if datasets:
            delivered_at = stage.wait_datasets()
        if not rejected:
            _wait_at_most(
                lambda: all(n >= len(published) for n in monitor.samples[-1].counts.values()),
                RECONCILE_SECONDS,
            )
        report = stage.verify()
    recovery = max(
        delivered_at - flow.lifted,
        recovery_seconds(monitor.samples, published, flow.lifted),
    )
    flow.restarts = len(stage.failures_since(flow.began))
    rejections = stage.new_rejections()
    clean = report.ok and rejections == set(rejected)
    write_result(
        name,
        {
            "clean": clean,
            "recovery_s": round(recovery, 1),
            "restarts": flow.restarts,
            **summary(report),
            **flow.notes,
        },
    )
    check_clean(report)
    assert rejections == set(rejected)


def publication_times(sent: ReplaySummary) -> list[float]:
    """Return the publication times of a run's distinct events, in order (seconds since 1970)."""
    first: dict[str, int] = {}
    with Ledger.open(sent.ledger) as ledger:
        for row in ledger.rows(Kind.VALID, Kind.DUPLICATE):
            if row.event_id is not None and row.timestamp is not None:
                first.setdefault(row.event_id, row.timestamp)
    return sorted(timestamp / 1000 for timestamp in first.values())


def summary(report: VerifyReport) -> dict[str, Any]:
    """Return the counts of a report over all destinations."""
    others = report.destinations
    return {
        "events": report.valid,
        "lost": report.lost + sum(len(other.lost) for other in others),
        "invented": report.invented + sum(len(other.invented) for other in others),
        "misenriched": report.misenriched,
        "wrong": sum(len(other.wrong) for other in others),
        "dead_letters": sum(report.dead_letters.values()),
        "rejected": sum(report.rejected.values()),
    }


def _wait_at_most(reached: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition up to a limit; the reconciliation reports missing events."""
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.2)


def pass_time(seconds: float) -> None:
    """Return after this number of seconds."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, "time passes", seconds + 10)
