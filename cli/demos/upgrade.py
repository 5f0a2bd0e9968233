"""`tunemesh upgrade-demo`: everything that an operator does to a running application, under load.

Events flow without a break while the application gets new code, another parallelism, another plan,
a version that restarts for ever, and records of newer schema versions. In the end every event is
accounted for. The pause of each step is the longest time without an accepted event; beside them
those of plain `flink stop` and `flink run -s` are measured in the same run.
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

from cli.demos import variants
from cli.deploy import ROLLED_BACK
from cli.main import given
from connectors.files import write_report
from deploy.local import application, flink, flink_cluster, platform
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import LocalSettings
from deploy.upgrades import deployment as deployments
from deploy.upgrades.local_release import LocalRelease
from jobs.settings import DEFAULT_PIPELINES
from schemas.errors import TunemeshError
from schemas.model import Contracts, load_contracts
from verification.flow import Flow
from verification.personalize_events import PersonalizeReader
from verification.replay import ReplaySummary
from verification.verify import VerifyReport, VerifySettings, summary_lines, verify

APPLICATION = "tunemesh"
AFTER_SECONDS = 10.0
"""Events that must flow after a step before the next one."""

STALE_TOLERANCE_MS = 5_000
"""Freshness: a user or item published that long before an event is attached."""

PLAIN_RUNS = 3


class UpgradeDemoError(TunemeshError):
    """A step did not end as it should, or an event is missing."""


@dataclass(slots=True)
class Step:
    """What was done, from when to when (seconds since the epoch), and whether it counts among the
    upgrades whose state fits."""

    name: str
    began: float
    ended: float
    plain: bool = False
    fits: bool = False
    pause_s: float = 0.0

    def document(self) -> dict[str, Any]:
        """For the report."""
        return {
            "name": self.name,
            "seconds": round(self.ended - self.began, 1),
            "pause_s": round(self.pause_s, 2),
        }


@click.command("upgrade-demo")
@click.option("--rate", type=click.FloatRange(min=10), default=500.0, show_default=True)
@click.option("--keep", is_flag=True, help="Leave everything running at the end.")
def upgrade_demo(rate: float, keep: bool) -> None:
    """Upgrade, rescale, change the plan, roll back, evolve schemas, while events flow."""
    settings = LocalSettings.from_environment(os.environ)
    try:
        report = _run(settings, rate)
    finally:
        if not keep:
            platform.down(settings, report=click.echo)
    file = settings.reports / "upgrade.json"
    write_report(file, report)
    for step in report["steps"]:
        click.echo(
            f"  {step['name']:<44} {step['seconds']:>7.1f} s  pause {step['pause_s']:>6.2f} s"
        )
    click.echo(
        f"median pause {report['median_pause_s']} s, plain stop and run -s"
        f" {report['plain_pause_s']} s; lost {report['lost']}, invented {report['invented']},"
        f" misenriched {report['misenriched']}; report: {file}"
    )
    if report["lost"] or report["invented"] or report["misenriched"] or not report["ok"]:
        raise UpgradeDemoError("something is off: see above")


def _run(settings: LocalSettings, rate: float) -> dict[str, Any]:
    contracts = load_contracts()
    platform.up(
        settings,
        application.parts_of(DEFAULT_PIPELINES),
        environ=os.environ,
        fresh=True,
        report=click.echo,
    )
    application.prepare(settings, contracts)
    folder = settings.home / "upgrade-demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    releases = _Releases(variants.packaged(folder))
    given("deploy", "submit", str(releases.first))

    flow = Flow(local_endpoints(settings), rate, contracts, seed=1)
    time.sleep(AFTER_SECONDS)
    steps = list(_steps(settings, releases, flow))
    changed = newer(contracts)
    registry = application.registry(settings)
    for contract in changed.sources:
        registry.register(contract)
    began = time.time()
    flow.evolve(changed)
    time.sleep(AFTER_SECONDS)
    steps.append(Step("songs v2 and interactions v2 arrive", began, time.time()))
    steps += _plain(settings)
    report = _accounts(settings, flow.end())
    accepted = sorted(
        row["accepted_at"] / 1000
        for row in PersonalizeReader(settings.personalize.url).rows("events")
    )
    for step in steps:
        step.pause_s = longest_pause(accepted, step)
    return document(steps, report, rate)


def document(steps: list[Step], verification: VerifyReport, rate: float) -> dict[str, Any]:
    """The report; pauses are medians: of the upgrades whose state fits, and of the plain ones."""
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
    """The longest time between two accepted events, from a step's begin until after its end."""
    inside = [at for at in accepted if step.began - 1 <= at <= step.ended + AFTER_SECONDS]
    return max((later - earlier for earlier, later in pairwise(inside)), default=0.0)


class _Releases:
    """The package of this checkout, and others made from it."""

    def __init__(self, first: Path) -> None:
        self.first = first
        self.second = variants.changed(first, "2222")
        self.third = variants.changed(first, "3333")
        self.bad = variants.restarting(first, "bbbb")
        self.replanned = variants.replanned(first, "cccc")


def _steps(settings: LocalSettings, releases: _Releases, flow: Flow) -> Iterator[Step]:
    upgrades: tuple[tuple[str, bool, int, tuple[str, ...]], ...] = (
        ("v1 -> v2, new code", True, 0, (str(releases.second),)),
        ("rescale 2 -> 1", True, 0, ("--parallelism", "1")),
        ("rescale 1 -> 2", True, 0, ("--parallelism", "2")),
        ("v2 -> v3, new code", True, 0, (str(releases.third),)),
        ("a setting", True, 0, ("--set", "tunemesh.recommendations:max.in.flight=60")),
        ("a version that restarts in a loop", False, ROLLED_BACK, (str(releases.bad),)),
        ("another plan, from the topics", False, 0, (str(releases.replanned), "--rebuild")),
    )
    for name, fits, code, arguments in upgrades:
        flow.check()
        began = time.time()
        given("deploy", "upgrade", *arguments, code=code)
        ended = time.time()
        time.sleep(AFTER_SECONDS)
        yield Step(name, began, ended, fits=fits)


def _plain(settings: LocalSettings) -> Iterator[Step]:
    """`flink stop` and `flink run -s` of what runs, with nothing prepared before the stop."""
    rest = flink.FlinkRest.of(settings)
    deployment = deployments.read(deployments.file_of(settings, APPLICATION))
    assert deployment is not None
    release = LocalRelease(
        APPLICATION, deployment.configuration, settings.home / "releases", settings, {}
    )
    properties = settings.home / "applications" / f"{APPLICATION}.json"
    savepoints = settings.data(flink_cluster.PART) / "savepoints"
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
            configuration={
                **application.job_configuration(deployment.configuration.properties),
                "parallelism.default": str(deployment.configuration.parallelism),
            },
        )
        rest.wait_running(started, application.RUNNING_SECONDS)
        ended = time.time()
        time.sleep(AFTER_SECONDS)
        yield Step(f"plain stop and run -s, {number + 1}", began, ended, plain=True)


def newer(contracts: Contracts) -> Contracts:
    """A field more in songs, one more and one less in interactions."""
    songs = variants.next_version(
        contracts["songs"], {"name": "mood", "type": ["null", "string"], "default": None}
    )
    plays = variants.next_version(
        contracts["interactions"],
        {"name": "volume", "type": "int", "default": 5},
        removed={"device"},
    )
    return replace(contracts, by_name={**contracts.by_name, "songs": songs, "interactions": plays})


def _accounts(settings: LocalSettings, summary: ReplaySummary) -> VerifyReport:
    report = verify(
        local_endpoints(settings),
        summary.run,
        VerifySettings(wait=300, quiet=60, stale_tolerance_ms=STALE_TOLERANCE_MS),
    )
    click.echo("\n".join(summary_lines(report)))
    return report
