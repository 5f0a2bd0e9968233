"""`tunemesh upgrade-demo`: upgrades of a running application under load.

Events flow while the application gets new code, another parallelism, another plan, a crash-looping
version, and records of newer schema versions. In the end every event is reconciled. The pause of a
step is the longest time without an accepted event; the pauses of plain `flink stop` and
`flink run -s` are measured in the same run.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from cli import terminal
from cli.demos import variants
from cli.deploy import ROLLED_BACK
from cli.local import start_services, stop_services
from cli.main import run_shown
from cli.parameters import FiniteRange
from cli.verify import report_output
from connectors.files import write_report
from deploy.local import application, flink, flink_cluster
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import LocalSettings
from deploy.upgrades import local_deployment
from deploy.upgrades.local_release import LocalRelease
from jobs.settings import DEFAULT_PIPELINES
from schemas.errors import TunemeshError
from schemas.model import Contracts, load_contracts
from verification.flow import Flow
from verification.personalize_events import PersonalizeReader
from verification.replay import ReplaySummary
from verification.verify import VerifyReport, VerifySettings, verify

APPLICATION = "tunemesh"
AFTER_SECONDS = 10.0
"""Seconds of events between two steps."""

STALE_TOLERANCE_MS = 5_000
"""Freshness: a user or item published that long before an event is attached."""

PLAIN_RUNS = 3


class UpgradeDemoError(TunemeshError):
    """A step failed, or an event is missing."""


@dataclass(slots=True)
class Step:
    """A step, its begin and end (seconds since the epoch), and whether its state fits the plan."""

    name: str
    began: float
    ended: float
    plain: bool = False
    fits: bool = False
    pause_s: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return the step for the report."""
        return {
            "name": self.name,
            "seconds": round(self.ended - self.began, 1),
            "pause_s": round(self.pause_s, 2),
        }


@click.command("upgrade-demo")
@click.option("--rate", type=FiniteRange(10), default=500.0, help="Interactions a second.")
@click.option("--keep", is_flag=True, help="Keep everything running at the end.")
def upgrade_demo(rate: float, keep: bool) -> None:
    """Upgrade, rescale, change the plan, roll back and evolve schemas while events flow.

    Writes reports/upgrade.json. Exits with 1 if an event is lost, invented or enriched wrongly.

    Example: tunemesh upgrade-demo --rate 1000
    """
    settings = LocalSettings.from_environment(os.environ)
    try:
        report = _run(settings, rate)
    finally:
        if not keep:
            stop_services(settings)
    file = settings.reports / "upgrade.json"
    write_report(file, report)
    rows = [
        (step["name"], f"{step['seconds']:.1f} s", f"{step['pause_s']:.2f} s")
        for step in report["steps"]
    ]
    header = ("step", "duration", "pause")
    terminal.show(terminal.table(header, rows, numbers=header[1:]))
    click.echo(
        f"median pause {report['median_pause_s']} s, plain stop and run -s"
        f" {report['plain_pause_s']} s; lost {report['lost']}, invented {report['invented']},"
        f" misenriched {report['misenriched']}; report: {file}"
    )
    if report["lost"] or report["invented"] or report["misenriched"] or not report["ok"]:
        raise UpgradeDemoError("verification failed, see above")


def _run(settings: LocalSettings, rate: float) -> dict[str, Any]:
    contracts = load_contracts()
    start_services(settings, application.services_for(DEFAULT_PIPELINES), fresh=True)
    application.prepare(settings, contracts)
    folder = settings.home / "upgrade-demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    first = variants.packaged(folder)
    second, third = variants.changed(first, "2222"), variants.changed(first, "3333")
    bad, replanned = variants.restarting(first, "bbbb"), variants.replanned(first, "cccc")
    run_shown("deploy", "submit", str(first))

    flow = Flow(local_endpoints(settings), rate, contracts, seed=1)
    time.sleep(AFTER_SECONDS)
    steps = list(_steps(flow, second, third, bad, replanned))
    changed = newer(contracts)
    registry = application.connect_registry(settings)
    for contract in changed.sources:
        registry.register(contract)
    began = time.time()
    flow.evolve(changed)
    time.sleep(AFTER_SECONDS)
    steps.append(Step("records of songs v2 and interactions v2", began, time.time()))
    steps += _plain(settings)
    report = _verify(settings, flow.end())
    accepted = sorted(
        row["accepted_at"] / 1000
        for row in PersonalizeReader(settings.personalize.url).rows("events")
    )
    for step in steps:
        step.pause_s = longest_pause(accepted, step)
    return document(steps, report, rate)


def document(steps: list[Step], verification: VerifyReport, rate: float) -> dict[str, Any]:
    """Return the report with median pauses: of upgrades whose state fits, and of plain ones."""
    return {
        "events": verification.produced,
        "rate": rate,
        "lost": verification.lost,
        "invented": verification.invented,
        "misenriched": verification.misenriched,
        "median_pause_s": round(statistics.median(s.pause_s for s in steps if s.fits), 2),
        "plain_pause_s": round(statistics.median(s.pause_s for s in steps if s.plain), 2),
        "steps": [step.document() for step in steps],
        "ok": verification.ok,
    }


def longest_pause(accepted: list[float], step: Step) -> float:
    """Return the longest time between two accepted events, from a step's begin to after its end."""
    inside = [t for t in accepted if step.began - 1 <= t <= step.ended + AFTER_SECONDS]
    return max((later - earlier for earlier, later in pairwise(inside)), default=0.0)


def _steps(flow: Flow, second: Path, third: Path, bad: Path, replanned: Path) -> Iterator[Step]:
    upgrades: tuple[tuple[str, bool, int, tuple[str, ...]], ...] = (
        ("v1 -> v2, new code", True, 0, (str(second),)),
        ("rescale 2 -> 1", True, 0, ("--parallelism", "1")),
        ("rescale 1 -> 2", True, 0, ("--parallelism", "2")),
        ("v2 -> v3, new code", True, 0, (str(third),)),
        ("a setting", True, 0, ("--set", "tunemesh.recommendations:max.in.flight=60")),
        ("a version that restarts in a loop", False, ROLLED_BACK, (str(bad),)),
        ("another plan, from the topics", False, 0, (str(replanned), "--rebuild")),
    )
    for name, fits, code, arguments in upgrades:
        flow.check()
        began = time.time()
        run_shown("deploy", "upgrade", *arguments, code=code)
        ended = time.time()
        time.sleep(AFTER_SECONDS)
        yield Step(name, began, ended, fits=fits)


def _plain(settings: LocalSettings) -> Iterator[Step]:
    """Run `flink stop` and `flink run -s`, without anything prepared before the stop."""
    rest = flink.FlinkRest.of(settings)
    deployment = local_deployment.read(local_deployment.deployment_file(settings, APPLICATION))
    assert deployment is not None
    release = LocalRelease(APPLICATION, deployment.configuration, settings, {})
    properties = settings.home / "applications" / f"{APPLICATION}.json"
    savepoints = settings.data(flink_cluster.NAME) / "savepoints"
    for number in range(PLAIN_RUNS):
        (job,) = rest.running_jobs()
        began = time.time()
        savepoint = rest.stop_with_savepoint(job.id, savepoints)
        started = flink.run_job(
            settings,
            release.folder / "main.py",
            ["--properties", str(properties)],
            environ={"PYTHONPATH": os.pathsep.join(release.python_path())},
            savepoint=savepoint,
            configuration={"parallelism.default": str(deployment.configuration.parallelism)},
        )
        rest.wait_running(started, application.RUNNING_SECONDS)
        ended = time.time()
        time.sleep(AFTER_SECONDS)
        yield Step(f"plain stop and run -s, {number + 1}", began, ended, plain=True)


def newer(contracts: Contracts) -> Contracts:
    """Return contracts with a new field in songs, and a new and a removed one in interactions."""
    songs = variants.next_version(
        contracts["songs"], {"name": "mood", "type": ["null", "string"], "default": None}
    )
    plays = variants.next_version(
        contracts["interactions"],
        {"name": "volume", "type": "int", "default": 5},
        removed={"device"},
    )
    return replace(contracts, by_name={**contracts.by_name, "songs": songs, "interactions": plays})


def _verify(settings: LocalSettings, summary: ReplaySummary) -> VerifyReport:
    with terminal.ProgressDisplay() as progress:
        report = verify(
            local_endpoints(settings),
            summary.run,
            VerifySettings(wait=300, quiet=60, stale_tolerance_ms=STALE_TOLERANCE_MS),
            progress,
        )
    terminal.show(*report_output(report))
    return report
