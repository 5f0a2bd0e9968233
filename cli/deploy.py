"""`tunemesh deploy`: submit, upgrade, rollback, status, snapshots; on the laptop and on AWS."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import click

from cli.deploy_options import (
    CHANGES,
    new_properties,
    parse_assignments,
    with_deployment,
    with_options,
)
from deploy.package import read
from deploy.upgrades import planning, preflight
from deploy.upgrades import snapshots as upgrade_snapshots
from deploy.upgrades.journal import Journal, Step
from deploy.upgrades.machine import Change, UpgradeError
from deploy.upgrades.planning import DeploymentContext
from deploy.upgrades.plans import Comparison, Fit
from deploy.upgrades.preflight import PreflightError
from deploy.upgrades.target import (
    LATEST,
    NOTHING,
    RUNNING_STATUSES,
    TRANSITIONAL_STATUSES,
    Application,
    Configuration,
    NoApplicationError,
    Status,
    Target,
)
from jobs.settings import DEFAULT_PIPELINES, PIPELINES

ROLLED_BACK = 4
"""The exit code when the upgrade was rolled back: the former version runs."""

CHANGE_SECONDS = 1_800


@click.group()
def deploy() -> None:
    """Applications: submit, upgrade by snapshot, verify, roll back.

    A release is what `tunemesh package` has made.
    """


@deploy.command()
@click.argument(
    "release", type=click.Path(exists=True, resolve_path=True, path_type=Path), required=False
)
@click.option(
    "--pipelines",
    default=",".join(DEFAULT_PIPELINES),
    show_default=True,
    help=f"What a new application runs: one or more of {', '.join(PIPELINES)}.",
)
@click.option(
    "--properties",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Property file of a new application; by default the laptop platform's.",
)
@with_options(CHANGES)
@with_deployment
def submit(
    context: DeploymentContext,
    release: Path | None,
    pipelines: str,
    properties: Path | None,
    assignments: tuple[str, ...],
    parallelism: int | None,
) -> None:
    """Make an application of RELEASE and start it; without RELEASE start a stopped one again.

    A new application starts without state, a stopped one from its last snapshot.
    """
    target = context.target
    try:
        seen: Application | None = target.describe()
    except NoApplicationError:
        seen = None
    if seen is not None:
        same = release is None or read(release).name == seen.configuration.release
        changed = not same or assignments or parallelism or properties
        if changed or seen.status not in (Status.READY, Status.STARTING):
            raise UpgradeError(
                f"{seen.name} is there already ({seen.status}, {seen.configuration.release});"
                " tunemesh deploy upgrade changes a running one, and with --force a stopped one;"
                " tunemesh deploy submit without options starts a stopped one"
            )
        if seen.status is Status.READY:
            click.echo(f"{seen.name} starts again from its last snapshot")
            target.start(LATEST)
    else:
        if release is None:
            raise click.UsageError("a new application needs a release: tunemesh package makes one")
        groups = new_properties(context, pipelines, properties, assignments)
        count = parallelism or context.settings.taskmanagers * context.settings.task_slots
        configuration = Configuration(read(release).name, groups, count)
        if context.is_local:
            from deploy.local import application

            application.prepare(context.settings)
        folder = context.unpack(release)
        if findings := preflight.check_settings(folder, groups):
            raise PreflightError(findings)
        target.check(configuration, release)
        target.create(configuration, release)
        click.echo(f"{target.name} starts: {configuration.release}")
        target.start(NOTHING)
    _settled(target)


@deploy.command()
@click.argument(
    "release", type=click.Path(exists=True, resolve_path=True, path_type=Path), required=False
)
@with_options(CHANGES)
@click.option(
    "--rebuild",
    is_flag=True,
    help="Start without the state, from the topics: it does not fit the new plan, or is wrong.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Of a version that restarts no snapshot can be made: stop it by force, go on from its"
    " last one. Also changes and starts an application that is stopped.",
)
@click.option("--dry-run", is_flag=True, help="Look at everything and print the steps.")
@click.option(
    "--keep", type=click.IntRange(1), default=5, show_default=True, help="How many snapshots stay."
)
@click.option(
    "--verify-seconds",
    type=click.IntRange(5, 7_200),
    help="When the new version must have done what is expected of it.",
)
@with_deployment
def upgrade(
    context: DeploymentContext,
    release: Path | None,
    assignments: tuple[str, ...],
    parallelism: int | None,
    rebuild: bool,
    force: bool,
    dry_run: bool,
    keep: int,
    verify_seconds: int | None,
) -> None:
    """Upgrade the running application to RELEASE, or to other settings of what it runs.

    Snapshot, update, wait, verify; rolled back by itself when the new version does not do what the
    former one did (exit code 4). An upgrade that was interrupted is gone on with.
    """
    context = _patient(context, verify_seconds)
    unfinished = context.machine.read_journal()
    given_up = force and unfinished is not None and unfinished.step is Step.ROLL_BACK
    if unfinished is not None and not unfinished.is_ended and not given_up:
        another = release is not None and read(release).name != unfinished.wanted.release
        if another or assignments or parallelism or dry_run or force:
            raise UpgradeError(
                f"an upgrade to {unfinished.wanted.release} is not finished: without a release and"
                " options this command goes on with it, tunemesh deploy rollback takes it back"
            )
        if release is not None:
            unfinished = replace(unfinished, release=str(release))
        click.echo(f"going on with the upgrade to {unfinished.wanted.release}")
        _told(context.machine.resume(unfinished))
        return
    overrides = parse_assignments(assignments)
    plan = planning.plan_upgrade(
        context, release, overrides, parallelism, keep=keep, rebuild=rebuild, force=force
    )
    change, comparison = plan.change, plan.comparison
    for note in plan.notes:
        click.echo(f"note: {note}")
    _say(comparison, change)
    if comparison.fit is Fit.REBUILD and not (rebuild or comparison == planning.NO_SNAPSHOT):
        raise PreflightError(
            [
                *comparison.reasons,
                (
                    "the state does not fit: --rebuild starts the new version without it, from the"
                    " topics (docs/concepts/upgrades.md)"
                ),
            ]
        )
    if dry_run:
        for line in _steps(context.target.describe(), change):
            click.echo(line)
        return
    _told(context.machine.begin(change))


@deploy.command()
@click.option("--verify-seconds", type=click.IntRange(5, 7_200), help="As with upgrade.")
@with_deployment
def rollback(context: DeploymentContext, verify_seconds: int | None) -> None:
    """Take the last upgrade back, finished or not: the former code, settings and state.

    Where the plan is the same, the state goes on; else it is that of the snapshot before the
    upgrade, and what has come since is read again.
    """
    context = _patient(context, verify_seconds)
    last = context.machine.read_journal()
    if last is None:
        raise UpgradeError(f"{context.target.name} was never upgraded from here")
    if last.step is Step.DONE and context.target.describe().configuration == last.wanted:
        back = planning.plan_rollback(context, last)
        if back is not None:
            click.echo("the plan is the same: back with the present state")
            end = context.machine.roll_back_keeping_state(last, back)
            _told(end, Step.DONE if end.wanted == back.wanted else Step.ROLLED_BACK)
            return
    _told(context.machine.roll_back(last, "requested"), expected=Step.ROLLED_BACK)


@deploy.command()
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
@with_deployment
def status(context: DeploymentContext, as_json: bool) -> None:
    """What runs, since which version, how it does, and how the last upgrade went."""
    seen, last = context.target.describe(), context.machine.read_journal()
    health = context.target.read_health() if seen.status in RUNNING_STATUSES else None
    if as_json:
        document = {
            "application": seen.name,
            "target": context.target.kind,
            "status": seen.status.value,
            "version": seen.version,
            **asdict(seen.configuration),
            "restarts": health.restarts if health else None,
            "checkpoints": health.checkpoints if health else None,
            "behind": sum(f.behind or 0 for f in health.flows.values()) if health else None,
            "upgrade": None
            if last is None
            else {"to": last.wanted.release, "step": last.step.value, "why": last.why},
        }
        click.echo(json.dumps(document, indent=2))
        return
    configuration = seen.configuration
    click.echo(
        f"{seen.name} is {seen.status} at version {seen.version}: {configuration.release},"
        f" parallelism {configuration.parallelism}"
    )
    if health is not None:
        restarts = "no restart" if not health.restarts else f"{health.restarts} restarts"
        click.echo(
            f"  {restarts}, {health.checkpoints} checkpoints,"
            f" {sum(f.behind or 0 for f in health.flows.values()):,} records behind"
            + (f"; restarted last because of: {health.failure}" if health.restarts else "")
        )
    if last is not None:
        click.echo(f"  last upgrade, to {last.wanted.release}: {last.step.value}")
        if last.why:
            click.echo(f"    {last.why}")
        if not last.is_ended:
            click.echo("    not finished: tunemesh deploy upgrade goes on, rollback takes it back")


@deploy.command()
@click.option("--create", metavar="NAME", help="Make one of the running application.")
@click.option("--delete", metavar="NAME", help="Delete one.")
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Delete all but the newest N.")
@with_deployment
def snapshots(
    context: DeploymentContext, create: str | None, delete: str | None, keep: int | None
) -> None:
    """The application's snapshots, the oldest first."""
    target = context.target
    needed = upgrade_snapshots.names_for_rollback(context.machine.read_journal())
    if create is not None:
        target.create_snapshot(create)
    if delete in needed:
        raise UpgradeError(f"{delete} is what tunemesh deploy rollback would go back to: it stays")
    if delete is not None:
        chosen = [one for one in target.list_snapshots() if one.name == delete]
        if not chosen:
            raise UpgradeError(f"{target.name} has no snapshot {delete}")
        target.delete_snapshot(chosen[0])
    if keep is not None:
        upgrade_snapshots.prune(target, keep, needed)
    for one in target.list_snapshots():
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.created))
        click.echo(f"{one.name:<32} {one.status:<9} version {one.version:<4} {made}")


# What they share.


def _say(comparison: Comparison, change: Change) -> None:
    meaning = {
        Fit.SAME: "the plan is the same, the state fits",
        Fit.COMPATIBLE: "the plan is another one, the state fits",
        Fit.REBUILD: "without the state",
    }[comparison.fit]
    click.echo(f"preflight: {change.wanted.release}: {meaning} ({comparison.fit})")
    for reason in comparison.reasons:
        click.echo(f"  {reason}")


def _steps(seen: Application, change: Change) -> list[str]:
    state = {
        LATEST: "from the state at the stop",
        NOTHING: "without state, from the topics",
    }.get(change.restore, f"from {change.restore.snapshot}")
    before = "stop        by force, without a snapshot"
    if not change.force:
        before = f"snapshot  {upgrade_snapshots.NAME_PREFIX}{seen.version + 1}-..."
    return [
        f"1 {before}",
        (
            f"2 update    {seen.configuration.release} -> {change.wanted.release}, parallelism"
            f" {seen.configuration.parallelism} -> {change.wanted.parallelism}, {state}"
        ),
        "3 wait      until it runs",
        "4 verify    checkpoints, restarts, lag, deliveries, dead letters",
        f"5 prune     {change.keep} snapshots stay",
        "            whatever goes wrong after 2: back to the former version and its state",
        "nothing was touched (--dry-run)",
    ]


def _told(end: Journal, expected: Step = Step.DONE) -> None:
    """Says how it ended; the exit code says so, too."""
    if end.step is Step.DONE:
        click.echo(f"done: {end.wanted.release} runs")
    elif end.step is Step.ROLLED_BACK:
        runs = "is back, stopped as it was" if end.stopped else "runs again"
        click.echo(f"rolled back: {end.former.release} {runs}. Why: {end.why}", err=True)
    else:
        raise UpgradeError(
            f"the upgrade was abandoned, {end.application} was left as it is: {end.why}"
        )
    if end.step is not expected:
        raise click.exceptions.Exit(ROLLED_BACK)


def _settled(target: Target) -> None:
    deadline = time.monotonic() + CHANGE_SECONDS
    while True:
        target.advance()
        seen = target.describe()
        if seen.status not in TRANSITIONAL_STATUSES:
            break
        if time.monotonic() > deadline:
            raise UpgradeError(f"{seen.name} is still {seen.status}; see: tunemesh deploy status")
        time.sleep(0.5)
    if seen.status not in RUNNING_STATUSES:
        why = target.describe_failure(seen.version) or "no reason given"
        raise UpgradeError(f"{seen.name} did not start: {why}")
    click.echo(f"{seen.name} runs, version {seen.version}")


def _patient(context: DeploymentContext, seconds: int | None) -> DeploymentContext:
    if seconds is None:
        return context
    verify = context.machine.verify
    verify = replace(
        verify, max_seconds=float(seconds), min_seconds=min(verify.min_seconds, seconds)
    )
    return replace(context, machine=replace(context.machine, verify=verify))
