"""One platform with all three pipelines, for one scenario after the other.

A scenario replays a short stretch, sets a fault, lifts it, waits until everything is delivered, and
accounts for the run at every destination. Destinations are reconciled for as a full_stage, so each
scenario also looks at what the ones before it have left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.local import application
from deploy.local.settings import LocalSettings
from jobs.settings import PIPELINES
from tests.faults.figures import check_clean, write_figures
from tests.faults.opensearch_proxy import OpenSearchProxy
from tests.faults.plans import FaultPlans, ServiceFaults
from tests.faults.pulse import Arrivals, Pulse, recovery_seconds
from tests.faults.sources import RestlessHour, WithMore
from tests.faults.stage import RECONCILE_SECONDS, START_SECONDS, Stage
from tests.support.waiting import wait_until
from verification.destinations import Topics, verify_destinations
from verification.entries import Entry, Kind, Source
from verification.generator import Hour
from verification.ledger import Ledger
from verification.replay import ReplaySettings, ReplaySummary, replay
from verification.verify import VerifyReport

SECONDS, RATE = 15, 200
"""How long a scenario's events flow, and how many a second."""

PARALLELISM = 2
"""Of each application."""

STALE_TOLERANCE_MS = 5_000
"""What is promised on a machine that is too busy, as it is while things are started again: a user
or item that is older than that is attached. The tests of their own look for less."""

DAY_MS = 86_400_000

PERSONALIZE, FIREHOSE, OPENSEARCH = "personalize", "firehose", "opensearch"

Rejection = tuple[str, str]
"""A service and what it rejects: an event's id, or the key of a user or item."""


class FullStage(Stage):
    """All three pipelines; OpenSearch behind a proxy that fails on demand.

    ``applications`` are the pipelines of each application: by default one application has all.
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
        self._known: set[tuple[Any, ...]] = set()

    def begin(self) -> None:
        """Start everything; returns when the application runs."""
        self.proxy.open()
        self.start_platform()
        self.resubmit(None)

    def end(self) -> None:
        """Close the proxy; the platform is stopped elsewhere."""
        self.proxy.close()

    def resubmit(
        self, savepoint: str | None, overrides: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """Submit all applications; the savepoint or checkpoint is that of a single one."""
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

    def failures_since(self, moment: float) -> list[str]:
        """Why jobs failed since then (seconds since the epoch), a job's newest first."""
        answers = [self.rest.call("GET", f"/jobs/{job}/exceptions") for job in self.jobs]
        return [
            entry["stacktrace"]
            for answer in answers
            for entry in answer["exceptionHistory"]["entries"]
            if entry["timestamp"] >= moment * 1000
        ]

    def attempts(self) -> dict[str, int]:
        """How often each vertex was started, the most of its subtasks; by its name."""
        found: dict[str, int] = {}
        for job in self.jobs:
            for vertex in self.rest.vertices(job):
                answer = self.rest.call("GET", f"/jobs/{job}/vertices/{vertex.id}")
                found[f"{job}/{vertex.id} {vertex.name}"] = 1 + max(
                    task["attempt"] for task in answer["subtasks"]
                )
        return found

    def new_rejections(self) -> set[Rejection]:
        """What destinations have rejected since the last call, from the dead letters."""
        registry = application.connect_registry(self.settings)
        dead_letters = Topics(self.endpoints, self.contracts, registry).dead_letters()
        fresh = {
            (letter["topic"], letter["partition"], letter["offset"], letter["error_code"]): (
                letter["error_code"].partition(".")[0],
                letter["event_id"] or (letter["key"] or b"").decode(),
            )
            for letter in dead_letters
            if letter["step"] == "deliver"
        }
        found = {rejection for known, rejection in fresh.items() if known not in self._known}
        self._known |= fresh.keys()
        return found

    def wait_datasets(self) -> float:
        """Wait until users and items are in place; returns the moment."""
        registry = application.connect_registry(self.settings)
        verify_destinations(
            self.endpoints, ["datasets"], self.contracts, registry, RECONCILE_SECONDS
        )
        return time.time()


@dataclass
class Flow:
    """A replay under way, and what a scenario does to it."""

    stage: FullStage
    began: float
    running: Future[ReplaySummary]
    pulse: Pulse
    lifted: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    """How often the job was restarted; known at the end."""

    def wait_sent(self) -> ReplaySummary:
        """Wait until everything is published."""
        return self.running.result(timeout=600)

    def lift(self) -> None:
        """The fault is over, or has struck: recovery counts from now."""
        self.lifted = time.time()

    def wait_failed(self, *texts: str) -> None:
        """Wait until the job has failed with all of these texts in the reason."""

        def has_failed() -> bool:
            reasons = self.stage.failures_since(self.began)
            return any(all(text in reason for text in texts) for reason in reasons)

        seconds = wait_until(has_failed, f"the job fails and says {texts}", START_SECONDS)
        self.notes["told_after_s"] = round(seconds, 1)


@contextmanager
def scenario(
    stage: FullStage,
    name: str,
    *,
    seed: int,
    seconds: int = SECONDS,
    rate: int = RATE,
    source: Callable[[Hour], Source] = RestlessHour,
    more: Callable[[Hour], Sequence[Entry]] = lambda _: (),
    rejected: frozenset[Rejection] = frozenset(),
    datasets: bool = False,
    days_ago: int = 0,
) -> Iterator[Flow]:
    """Replay beside the block, which begins as events flow; then reconcile everything.

    ``more`` are entries put among those of the hour. ``rejected`` is exactly what destinations
    reject. ``datasets``: recovery counts users and items, too. ``days_ago``: when it was listened.
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
    entries = WithMore(source(hour), more(hour))
    settings = ReplaySettings(rate=float(rate))
    with (
        Pulse(stage.arrivals) as pulse,
        ThreadPoolExecutor(1, thread_name_prefix="replay") as pool,
    ):
        began, before = time.time(), stage.enriched_records()
        running = pool.submit(replay, entries, stage.endpoints, settings)
        wait_until(
            lambda: running.done() or stage.enriched_records() > before, "no event is enriched", 120
        )
        flow = Flow(stage, began, running, pulse)
        yield flow
        sent = publication_times(flow.wait_sent())
        assert flow.lifted is not None, "the scenario has not lifted its fault"
        lost = {service for service, _ in rejected}
        in_place = flow.lifted
        if datasets:
            in_place = stage.wait_datasets()
        arrived = lambda: all(  # noqa: E731
            count >= len(sent) for count in pulse.beats[-1].counts.values()
        )
        if not lost:
            _wait_at_most(arrived, RECONCILE_SECONDS)
        report = stage.verify()
    recovery = max(in_place - flow.lifted, recovery_seconds(pulse.beats, sent, flow.lifted))
    flow.restarts = len(stage.failures_since(flow.began))
    found = stage.new_rejections()
    clean = report.ok and found == set(rejected)
    write_figures(
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
    assert found == set(rejected), f"rejected: {found}, expected {set(rejected)}"


def publication_times(sent: ReplaySummary) -> list[float]:
    """When each distinct event of a run was published, in order; seconds since the epoch."""
    first: dict[str, int] = {}
    with Ledger.open(sent.ledger) as ledger:
        for row in ledger.rows(Kind.VALID, Kind.DUPLICATE):
            if row.event_id is not None and row.timestamp is not None:
                first.setdefault(row.event_id, row.timestamp)
    return sorted(moment / 1000 for moment in first.values())


def summary(report: VerifyReport) -> dict[str, Any]:
    """A report in a few figures, all destinations together."""
    others = report.destinations
    return {
        "events": report.valid,
        "lost": report.lost + sum(len(one.lost) for one in others),
        "invented": report.invented + sum(len(one.invented) for one in others),
        "misenriched": report.misenriched,
        "wrong": sum(len(one.wrong) for one in others),
        "dead_letters": sum(report.dead_letters.values()),
        "rejected": sum(report.rejected.values()),
    }


def _wait_at_most(reached: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition up to a limit; the reconciliation names what is missing then."""
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.2)


def pass_time(seconds: float) -> None:
    """Return after so many seconds."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, "time passes", seconds + 10)
