"""Plans an upgrade: the wanted version, whether its state fits, and where it is restored from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.flink.properties import Groups
from deploy.local.settings import LocalSettings
from deploy.package.release import read_description
from deploy.upgrades import local_deployment, preflight, snapshots
from deploy.upgrades.journal import Journal
from deploy.upgrades.machine import Change, UpgradeError, UpgradeMachine, require_upgradable
from deploy.upgrades.plans import Comparison, Fit
from deploy.upgrades.preflight import PreflightError
from deploy.upgrades.releases import prune_releases, unpack_release
from deploy.upgrades.target import LATEST, Configuration, Restore, RestoreKind, Snapshot, Target

NO_SNAPSHOT = Comparison(Fit.REBUILD, ("there is no snapshot: it starts from the topics",))


@dataclass(frozen=True, slots=True)
class DeploymentContext:
    """A deployment with what an upgrade needs: its target, and the machine that changes it."""

    settings: LocalSettings
    target: Target
    machine: UpgradeMachine

    @property
    def is_local(self) -> bool:
        """Whether the application runs on the local cluster."""
        return self.target.kind == "local"

    def unpack(self, release: Path) -> Path:
        """Return the folder with a release's files, below the platform's home.

        Releases that were not used for long are removed.
        """
        releases = self.settings.home / "releases"
        folder = unpack_release(releases, read_description(release).name, release)
        needed = {
            deployment.versions[number].release
            for deployment in local_deployment.read_all(self.settings)
            for number in deployment.needed_versions
        }
        prune_releases(releases, needed)
        return folder


@dataclass(frozen=True, slots=True)
class UpgradePlan:
    """A change, how the state fits it, and findings that do not prevent it."""

    change: Change
    comparison: Comparison
    notes: tuple[str, ...] = ()


def plan_upgrade(
    context: DeploymentContext,
    release: Path | None,
    overrides: Mapping[str, Mapping[str, str]],
    parallelism: int | None,
    *,
    keep: int,
    rebuild: bool,
    force: bool,
) -> UpgradePlan:
    """Run the preflight and plan an upgrade; raises PreflightError with the findings."""
    target, application = context.target, context.target.describe()
    require_upgradable(application, force=force)
    running = target.find_files(application.configuration.release)
    if release is not None:
        name, folder = read_description(release).name, context.unpack(release)
    elif running is not None:
        name, folder = application.configuration.release, running
    else:
        raise UpgradeError(
            f"the files of {application.configuration.release} no longer exist; name a release"
        )
    former = application.configuration.properties
    groups = merge_properties(former, overrides)
    wanted = Configuration(name, groups, parallelism or application.configuration.parallelism)
    if wanted == application.configuration and not (rebuild or force):
        raise UpgradeError(f"{application.name} runs {name} with these settings already")
    if findings := preflight.check_settings(folder, groups):
        raise PreflightError(findings)
    snapshot = None
    if force:
        snapshot, comparison = _compare_with_last_snapshot(target, folder, groups)
    else:
        comparison = preflight.compare_releases(running, folder, former, groups)
    if rebuild and comparison.fit is not Fit.REBUILD:
        comparison = Comparison(Fit.REBUILD, ("the state fits, but --rebuild does not use it",))
    findings, notes = preflight.check_contracts(folder, preflight.connect_registry(groups))
    if findings:
        raise PreflightError(findings)
    wanted, restore = preflight.configure_state(former, wanted, comparison.fit, time.time())
    if snapshot is not None and restore == LATEST:
        restore = Restore(RestoreKind.CUSTOM, snapshot.name)
    target.check(wanted, release if release is not None else folder)
    return UpgradePlan(Change(wanted, release, restore, keep, force), comparison, tuple(notes))


def _compare_with_last_snapshot(
    target: Target, folder: Path, groups: Groups
) -> tuple[Snapshot | None, Comparison]:
    """Return the last snapshot, and how its state fits a release."""
    ready = snapshots.list_ready(target)
    if not ready:
        return None, NO_SNAPSHOT
    version = target.describe_version(ready[-1].version)
    files = target.find_files(version.release)
    return ready[-1], preflight.compare_releases(files, folder, version.properties, groups)


def plan_rollback(context: DeploymentContext, last: Journal) -> Change | None:
    """Plan a rollback that keeps the present state; returns None when the plans differ."""
    new, old = (context.target.find_files(c.release) for c in (last.wanted, last.former))
    if new is None or old is None:
        return None
    former = last.wanted.properties
    fit = preflight.compare_releases(new, old, former, last.former.properties).fit
    if fit is not Fit.SAME:
        return None
    wanted, restore = preflight.configure_state(former, last.former, fit, time.time())
    if wanted == last.wanted:
        return None
    return Change(wanted, None, restore, last.keep)


def merge_properties(groups: Groups, overrides: Mapping[str, Mapping[str, str]]) -> Groups:
    """Return the property groups with overrides."""
    merged = {name: dict(values) for name, values in groups.items()}
    for name, values in overrides.items():
        merged.setdefault(name, {}).update(values)
    return merged
