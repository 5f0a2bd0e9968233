"""A platform for a fault test: the application on it, events, and their reconciliation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import psutil

from cli import terminal
from cli.verify import report_output
from deploy.local import application, flink_cluster, platform, process, services
from deploy.local.endpoints import local_endpoints
from deploy.local.flink import FlinkRest
from deploy.local.python_servers import PERSONALIZE
from deploy.local.settings import LocalSettings
from jobs.settings import DEFAULT_PIPELINES
from schemas.codec import Decoder
from schemas.model import Role, load_contracts
from tests.faults.plans import Plan, ServiceFaults, call_json
from tests.faults.sources import ChangingHour
from tests.support.waiting import wait_until
from verification.entries import Source
from verification.generator import GeneratedHour, Hour
from verification.positions import ProducerFactory, TopicReader, create_producer, topic_ends
from verification.replay import ReplaySettings, ReplaySummary, replay
from verification.verify import VerifyReport, VerifySettings, verify

START_SECONDS = 240
"""The limit for the start of the application, which takes seconds on an idle machine."""

RECONCILE_SECONDS = 300
"""The limit for the delivery of all published events."""

RATE = int(os.environ.get("TUNEMESH_FAULTS_RATE", "2000"))
"""Events per second of the tests under load; fewer for a busy machine."""

HOUR_START_MS = 1_760_000_000_000
"""The start of every generated hour: a seed then always gives the same events."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The effect of a fault on the flow, in seconds from the fault."""

    flowing_s: float
    """Until the first enriched event after the longest gap."""

    silence_s: float
    """The longest gap between two enriched events."""

    caught_up_s: float
    """Until the last event that was enriched more than a second after its publication."""


class Stage:
    """A platform, its job, and replays through it."""

    def __init__(self, settings: LocalSettings, environ: Mapping[str, str]) -> None:
        self.failed = False
        self.stale_tolerance_ms = 0
        self.settings = settings
        self.environ = environ
        self.endpoints = local_endpoints(settings)
        self.rest = FlinkRest.of(settings)
        self.contracts = load_contracts()
        self.personalize_faults = ServiceFaults(settings.personalize.url)
        self.enriched = self.contracts.only(Role.ENRICHED).topic
        self.job = ""
        self.pipelines: tuple[str, ...] = DEFAULT_PIPELINES

    # Platform

    def start(self, overrides: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Start all services and submit the application."""
        self.start_platform()
        self.submit(overrides)

    def start_platform(self) -> None:
        """Start all services; create topics and register schemas."""
        needed = application.services_for(self.pipelines)
        platform.up(self.settings, needed, environ=self.environ)
        application.prepare(self.settings, self.contracts)

    def submit(
        self,
        overrides: Mapping[str, Mapping[str, str]] | None = None,
        *,
        savepoint: str | None = None,
    ) -> None:
        """Submit the application, from a savepoint or checkpoint; returns when it runs."""
        self.job = application.submit(
            self.settings,
            self.pipelines,
            overrides,
            savepoint=savepoint,
            environ=self.environ,
            wait=False,
        )
        self.rest.wait_running(self.job, START_SECONDS)

    def failures(self) -> list[str]:
        """Return the reasons of the job's failures, newest first; it is restarted after each one.

        They come from the job's history: the metric of restarts is delayed and absent at first.
        """
        answer = self.rest.call("GET", f"/jobs/{self.job}/exceptions")
        return [entry["stacktrace"] for entry in answer["exceptionHistory"]["entries"]]

    def start_missing(self, service: str) -> None:
        """Start the missing servers of a service."""
        platform.up(self.settings, [service], environ=self.environ)

    def kill_taskmanager(self) -> float:
        """Kill a TaskManager as a crash would; returns the time in seconds since the epoch."""
        killed_at = time.time()
        process.kill(self.settings, f"{flink_cluster.TASKMANAGER}1")
        return killed_at

    def restart_personalize(self, *arguments: str) -> None:
        """Kill the Personalize emulator and start it with additional arguments."""
        process.kill(self.settings, PERSONALIZE)
        (server,) = services.servers(self.settings, [PERSONALIZE], self.environ)
        process.stop(self.settings, PERSONALIZE, self.settings.stop_seconds)
        launch = server.prepare()
        launch = replace(launch, arguments=(*launch.arguments, *arguments))
        process.start(self.settings, server, launch, self.environ)
        wait_until(server.is_healthy, "the Personalize emulator responds", 60)

    def python_workers(self) -> list[psutil.Process]:
        """Return the Python processes of the TaskManagers, which run functions in process mode."""
        workers = []
        for number in range(1, self.settings.taskmanagers + 1):
            name = f"{flink_cluster.TASKMANAGER}{number}"
            manager = process.find_process(process.read_record(self.settings, name))
            assert manager is not None, f"{name} does not run"
            workers += [
                child
                for child in manager.children(recursive=True)
                if "python" in child.name() and "pyflink" in " ".join(child.cmdline())
            ]
        return workers

    def put_faults(self, plan: Plan) -> None:
        """Set the fault plan of the Personalize emulator."""
        self.personalize_faults.put(plan)

    def clear_faults(self) -> None:
        """Remove the fault plan of the Personalize emulator."""
        self.personalize_faults.clear()

    def fault_report(self) -> list[dict[str, Any]]:
        """Return the rules of the Personalize emulator, each with how often it ``fired``."""
        return self.personalize_faults.report()

    def personalize_stats(self) -> dict[str, Any]:
        """Return the counts of the Personalize emulator."""
        url = f"{self.settings.personalize.url}/_local/stats"
        stats: dict[str, Any] = call_json("GET", url)
        return stats

    @contextmanager
    def without_personalize(self) -> Iterator[None]:
        """Kill Personalize, and start it again at the end of the block."""
        process.kill(self.settings, PERSONALIZE)
        try:
            yield
        finally:
            self.start_missing(PERSONALIZE)

    # Events

    @contextmanager
    def replaying(
        self, *, seconds: int, rate: int, seed: int, anomalies: bool = True, changing: bool = False
    ) -> Iterator[Future[ReplaySummary]]:
        """Replay a generated hour while the block runs; see :meth:`replaying_source`."""
        hour = Hour(
            interactions=seconds * rate, start_ms=HOUR_START_MS, seed=seed, anomalies=anomalies
        )
        source = ChangingHour(hour) if changing else GeneratedHour(hour)
        with self.replaying_source(source, rate) as running:
            yield running
            running.result(timeout=seconds * 4 + 120)

    @contextmanager
    def replaying_source(
        self, source: Source, rate: int, producer: ProducerFactory = create_producer
    ) -> Iterator[Future[ReplaySummary]]:
        """Replay a source in a thread; the block begins when the first events are enriched."""
        before = self.enriched_records()
        settings = ReplaySettings(rate=float(rate))
        with ThreadPoolExecutor(1, thread_name_prefix="replay") as pool:
            running = pool.submit(replay, source, self.endpoints, settings, producer=producer)

            def is_flowing() -> bool:
                if running.done():
                    running.result()
                return self.enriched_records() > before

            wait_until(is_flowing, "an event is enriched", 120)
            yield running

    def enriched_records(self) -> int:
        """Return the number of records of interactions-enriched."""
        ends = topic_ends(self.settings.kafka.address, [self.enriched])
        return sum(ends[self.enriched].values())

    # Reconciliation

    def verify(self) -> VerifyReport:
        """Reconcile the newest run."""
        destinations = application.destinations_of(self.pipelines)
        settings = VerifySettings(
            wait=RECONCILE_SECONDS,
            quiet=90,
            destinations=destinations,
            stale_tolerance_ms=self.stale_tolerance_ms,
        )
        report = verify(self.endpoints, settings=settings)
        terminal.show(*report_output(report))
        return report

    def recovery(self, since: float) -> Recovery:
        """Return the recovery of the flow after a fault at ``since`` (seconds since the epoch)."""
        emissions = sorted(self._emissions())
        after = [(time, delay) for time, delay in emissions if time >= since]
        assert len(after) > 1, "no event has been enriched since the fault"
        times = [since, *(time for time, _ in after)]
        silence, flowing = max((later - earlier, later) for earlier, later in pairwise(times))
        late = [time for time, delay in after if delay > 1]
        caught_up = max(late, default=flowing)
        return Recovery(round(flowing - since, 2), round(silence, 2), round(caught_up - since, 2))

    def _emissions(self) -> Iterator[tuple[float, float]]:
        """Yield the time of each enriched record, and its delay after the publication."""
        decoder = Decoder(
            self.contracts.only(Role.ENRICHED), application.connect_registry(self.settings)
        )
        partitions = topic_ends(self.settings.kafka.address, [self.enriched])[self.enriched]
        with TopicReader(
            self.settings.kafka.address, self.enriched, dict.fromkeys(partitions, 0)
        ) as reader:
            for message in reader.read():
                emitted = message.timestamp()[1]
                published = decoder.decode(message.value())["published_at"]
                yield emitted / 1000, (emitted - published) / 1000
