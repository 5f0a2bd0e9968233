"""`tunemesh deploy`: applications and their upgrades, on the local cluster and on AWS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click

from cli.connections import require_services
from cli.deploy_options import (
    CHANGES,
    new_properties,
    parse_pipelines,
    with_deployment,
    with_options,
)
from cli.parameters import SNAPSHOT_NAME
from cli.terminal import show, table, waiting_for
from connectors.flink.properties import RUN_OPTIONS, Groups
from deploy.package.release import read_description
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
from jobs.settings import DECLARED, DEFAULT_PIPELINES, PIPELINES
from schemas.errors import counted
from schemas.settings import is_secret

ROLLED_BACK = 4
"""Exit code if the upgrade was rolled back: the former version runs."""

CHANGE_SECONDS = 1_800


@click.group()
def deploy() -> None:
    """Applications: submit, upgrade by snapshot, verify, roll back.

    RELEASE is a zip of `tunemesh package`, or a folder with its content.
    """


@deploy.command(short_help="Create an application from a release, or start a stopped one.")
@click.argument(
    "release", type=click.Path(exists=True, resolve_path=True, path_type=Path), required=False
)
@click.option(
    "--pipelines",
    default=",".join(DEFAULT_PIPELINES),
    callback=lambda context, option, text: parse_pipelines(text),
    help=f"What a new application runs: one or more of {', '.join(PIPELINES)}.",
)
@click.option(
    "--properties",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Property file of a new application; by default that of the local platform.",
)
@with_options(CHANGES)
@with_deployment
def submit(
    context: DeploymentContext,
    release: Path | None,
    pipelines: tuple[str, ...],
    properties: Path | None,
    overrides: dict[str, dict[str, str]],
    parallelism: int | None,
) -> None:
    """Create an application from RELEASE and start it; without RELEASE, start a stopped one.

    A new application starts without state, a stopped one from its last snapshot.

    Example: tunemesh deploy submit dist/tunemesh-stream-0.1.0-0123456789ab.zip
    """
    target = context.target
    try:
        seen: Application | None = target.describe()
    except NoApplicationError:
        seen = None
    if seen is not None:
        same = release is None or read_description(release).name == seen.configuration.release
        changed = not same or overrides or parallelism or properties
        if changed or seen.status not in (Status.READY, Status.STARTING):
            raise UpgradeError(
                f"{seen.name} already exists ({seen.status}, {seen.configuration.release})."
                " Change it with tunemesh deploy upgrade (--force if it is stopped), or start it"
                " with tunemesh deploy submit without options"
            )
        if seen.status is Status.READY:
            click.echo(f"{seen.name} starts from its last snapshot")
            target.start(LATEST)
    else:
        if release is None:
            raise click.UsageError("a new application needs a release. Build one: tunemesh package")
        groups = new_properties(context, pipelines, properties, overrides)
        count = parallelism or context.settings.taskmanagers * context.settings.task_slots
        configuration = Configuration(read_description(release).name, groups, count)
        if context.is_local:
            from deploy.local import application

            require_services(context.settings, "kafka", "aws", "flink")
            application.prepare(context.settings)
        folder = context.unpack(release)
        if findings := preflight.check_settings(folder, groups):
            raise PreflightError(findings)
        target.check(configuration, release)
        target.create(configuration, release)
        click.echo(f"{target.name} starts: {configuration.release}")
        target.start(NOTHING)
    with waiting_for(f"{target.name} to run"):
        _wait_until_settled(target)


@deploy.command(short_help="Upgrade the running application to a release or to settings.")
@click.argument(
    "release", type=click.Path(exists=True, resolve_path=True, path_type=Path), required=False
)
@with_options(CHANGES)
@click.option(
    "--rebuild",
    is_flag=True,
    help="Start without state, from the topics: the state does not fit the new plan, or is wrong.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Stop a crash-looping version without a snapshot, and start from its last one. Also"
    " changes and starts a stopped application.",
)
@click.option("--dry-run", is_flag=True, help="Run the checks and print the steps; change nothing.")
@click.option("--keep", type=click.IntRange(1), default=5, help="Snapshots to keep.")
@click.option(
    "--verify-seconds",
    type=click.IntRange(5, 7_200),
    help="Maximum seconds until the new version must pass verification.",
)
@with_deployment
def upgrade(
    context: DeploymentContext,
    release: Path | None,
    overrides: dict[str, dict[str, str]],
    parallelism: int | None,
    rebuild: bool,
    force: bool,
    dry_run: bool,
    keep: int,
    verify_seconds: int | None,
) -> None:
    """Upgrade the running application to RELEASE, or to other settings.

    Takes a snapshot, updates, waits and verifies. Rolls back automatically if the new version does
    not pass verification (exit code 4). Without arguments, continues an interrupted upgrade.

    \b
    Examples:
      tunemesh deploy upgrade dist/tunemesh-stream-0.2.0-0123456789ab.zip --dry-run
      tunemesh deploy upgrade --parallelism 4
    """
    context = _with_verify_timeout(context, verify_seconds)
    unfinished = context.machine.read_journal()
    is_abandoned = force and unfinished is not None and unfinished.step is Step.ROLL_BACK
    if unfinished is not None and not unfinished.is_ended and not is_abandoned:
        is_another = (
            release is not None and read_description(release).name != unfinished.wanted.release
        )
        if is_another or overrides or parallelism or dry_run or force:
            raise UpgradeError(
                f"an upgrade to {unfinished.wanted.release} is not finished. Continue it with"
                " tunemesh deploy upgrade without arguments, or revert it with tunemesh deploy"
                " rollback"
            )
        if release is not None:
            unfinished = replace(unfinished, release=str(release))
        click.echo(f"continuing the upgrade to {unfinished.wanted.release}")
        with waiting_for(f"the upgrade of {context.target.name}"):
            journal = context.machine.resume(unfinished)
        _report_and_exit(journal)
        return
    plan = planning.plan_upgrade(
        context, release, overrides, parallelism, keep=keep, rebuild=rebuild, force=force
    )
    change, comparison = plan.change, plan.comparison
    for note in plan.notes:
        click.echo(f"note: {note}")
    _print_comparison(comparison, change)
    if comparison.fit is Fit.REBUILD and not (rebuild or comparison == planning.NO_SNAPSHOT):
        raise PreflightError(
            [
                *comparison.reasons,
                (
                    "the state does not fit; --rebuild starts the new version without it, from the"
                    " topics (docs/concepts/upgrades.md)"
                ),
            ]
        )
    if dry_run:
        for line in steps_of(context.target.describe(), change):
            click.echo(line)
        return
    with waiting_for(f"the upgrade of {context.target.name}"):
        journal = context.machine.begin(change)
    _report_and_exit(journal)


@deploy.command(short_help="Roll back the last upgrade, finished or not.")
@click.option("--verify-seconds", type=click.IntRange(5, 7_200), help="As with upgrade.")
@with_deployment
def rollback(context: DeploymentContext, verify_seconds: int | None) -> None:
    """Roll back the last upgrade, finished or not: to the former code, settings and state.

    If the plan is the same, the present state is kept. Otherwise the state is restored from the
    snapshot before the upgrade, and the records since then are read again.

    Example: tunemesh deploy rollback
    """
    context = _with_verify_timeout(context, verify_seconds)
    last = context.machine.read_journal()
    if last is None:
        raise UpgradeError(f"{context.target.name} has not been upgraded from this machine")
    if last.upgrade_step is Step.ROLLED_BACK:
        raise UpgradeError(f"the last upgrade was rolled back already: {last.why or 'no reason'}")
    if last.step is Step.DONE and context.target.describe().configuration == last.wanted:
        back = planning.plan_rollback(context, last)
        if back is not None:
            click.echo("the plan is the same: the present state is kept")
            with waiting_for(f"the rollback of {context.target.name}"):
                end = context.machine.roll_back_keeping_state(last, back)
            _report_and_exit(end, Step.DONE if end.wanted == back.wanted else Step.ROLLED_BACK)
            return
    with waiting_for(f"the rollback of {context.target.name}"):
        end = context.machine.roll_back(last, "requested")
    _report_and_exit(end, expected=Step.ROLLED_BACK)


@deploy.command(short_help="Show the version, its health, and the last upgrade.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_deployment
def status(context: DeploymentContext, as_json: bool) -> None:
    """Show the running version, its health, and the result of the last upgrade.

    \b
    Example:
      tunemesh deploy status --target aws --region eu-west-1 --bucket my-releases
    """
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
            else {"to": last.upgrade_to, "step": last.upgrade_step.value, "why": last.why},
        }
        click.echo(json.dumps(document, indent=2))
        return
    configuration = seen.configuration
    click.echo(
        f"{seen.name} is {seen.status} at version {seen.version}: {configuration.release},"
        f" parallelism {configuration.parallelism}"
    )
    for line in property_lines(configuration.properties):
        click.echo(f"  {line}")
    if health is not None:
        behind = sum(f.behind or 0 for f in health.flows.values())
        click.echo(
            f"  {counted(health.restarts, 'restart')},"
            f" {counted(health.checkpoints, 'checkpoint')}, {counted(behind, 'record')} behind"
            + (f"; cause of the last restart: {health.failure}" if health.restarts else "")
        )
    if last is not None:
        click.echo(f"  last upgrade, to {last.upgrade_to}: {last.upgrade_step.value}")
        if last.why:
            click.echo(f"    {last.why}")
        if not last.is_ended:
            click.echo(
                "    not finished; continue with tunemesh deploy upgrade, or revert with rollback"
            )


@deploy.command(short_help="List, take and delete the application's snapshots.")
@click.option(
    "--create",
    type=SNAPSHOT_NAME,
    metavar="NAME",
    help="Take a snapshot of the running application.",
)
@click.option("--delete", metavar="NAME", help="Delete a snapshot.")
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Delete all but the newest N.")
@with_deployment
def snapshots(
    context: DeploymentContext, create: str | None, delete: str | None, keep: int | None
) -> None:
    """List the application's snapshots, the oldest first; take and delete them.

    Example: tunemesh deploy snapshots --create before-maintenance
    """
    target = context.target
    needed = upgrade_snapshots.names_for_rollback(context.machine.read_journal())
    if create is not None:
        target.create_snapshot(create)
    if delete in needed:
        raise UpgradeError(f"{delete} is kept: tunemesh deploy rollback needs it")
    if delete is not None:
        chosen = [one for one in target.list_snapshots() if one.name == delete]
        if not chosen:
            raise UpgradeError(f"{target.name} has no snapshot {delete}")
        target.delete_snapshot(chosen[0])
    if keep is not None:
        upgrade_snapshots.prune(target, keep, needed)
    rows = [
        (
            snapshot.name,
            snapshot.status,
            f"version {snapshot.version}",
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.created)),
        )
        for snapshot in target.list_snapshots()
    ]
    show(table(("name", "status", "version", "created"), rows, show_header=False))


def _print_comparison(comparison: Comparison, change: Change) -> None:
    meaning = {
        Fit.SAME: "the plan is the same, the state fits",
        Fit.COMPATIBLE: "the plan differs, the state fits",
        Fit.REBUILD: "without the state",
    }[comparison.fit]
    click.echo(f"preflight: {change.wanted.release}: {meaning} ({comparison.fit})")
    for reason in comparison.reasons:
        click.echo(f"  {reason}")


def steps_of(seen: Application, change: Change) -> list[str]:
    """Return the lines of an upgrade's steps, with the settings that it changes."""
    state = {
        LATEST: "with its state at the stop",
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
        *(
            f"            {line}"
            for line in changed_properties(seen.configuration.properties, change.wanted.properties)
        ),
        "3 wait      until it runs",
        "4 verify    checkpoints, restarts, lag, deliveries, dead letters",
        f"5 prune     keep {change.keep} snapshots",
        "            on failure after 2: roll back to the former version and its state",
        "nothing was changed (--dry-run)",
    ]


def property_lines(groups: Groups) -> Iterator[str]:
    """Yield a line for each group: the properties that this tool or the operator has set."""
    for group, values in sorted(groups.items()):
        if group != RUN_OPTIONS and values:
            shown = (f"{name}={_shown(group, name, values[name])}" for name in sorted(values))
            yield f"{group}: {', '.join(shown)}"


def changed_properties(former: Groups, wanted: Groups) -> Iterator[str]:
    """Yield a line for each property that differs: GROUP:NAME former -> wanted."""
    for group in sorted(former.keys() | wanted.keys()):
        before, after = former.get(group, {}), wanted.get(group, {})
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                shown = [
                    _shown(group, name, values[name]) if name in values else "not set"
                    for values in (before, after)
                ]
                yield f"{group}:{name} {' -> '.join(shown)}"


def _shown(group: str, name: str, value: str) -> str:
    return "(not shown)" if is_secret(group, name, *DECLARED) else value


def _report_and_exit(end: Journal, expected: Step = Step.DONE) -> None:
    """Print the result; exit with ROLLED_BACK if it is not the expected one."""
    if end.step is Step.DONE:
        click.echo(f"done: {end.wanted.release} runs")
    elif end.step is Step.ROLLED_BACK:
        state = "is restored, stopped as before" if end.stopped else "runs again"
        click.echo(f"rolled back: {end.former.release} {state}. Reason: {end.why}", err=True)
    else:
        raise UpgradeError(
            f"the upgrade was abandoned, {end.application} was not changed: {end.why}"
        )
    if end.step is not expected:
        raise click.exceptions.Exit(ROLLED_BACK)


def _wait_until_settled(target: Target) -> None:
    deadline = time.monotonic() + CHANGE_SECONDS
    while True:
        target.advance()
        seen = target.describe()
        if seen.status not in TRANSITIONAL_STATUSES:
            break
        if time.monotonic() > deadline:
            raise UpgradeError(f"{seen.name} is still {seen.status}. See: tunemesh deploy status")
        time.sleep(0.5)
    if seen.status not in RUNNING_STATUSES:
        why = target.describe_failure(seen.version) or "unknown reason"
        raise UpgradeError(f"{seen.name} did not start: {why}")
    click.echo(f"{seen.name} runs, version {seen.version}")


def _with_verify_timeout(context: DeploymentContext, seconds: int | None) -> DeploymentContext:
    if seconds is None:
        return context
    verify = context.machine.verify
    verify = replace(
        verify, max_seconds=float(seconds), min_seconds=min(verify.min_seconds, seconds)
    )
    return replace(context, machine=replace(context.machine, verify=verify))
