"""What a change would be: the version wanted, whether its state fits, where that comes from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from connectors.flink.properties import RUN_OPTIONS, Groups, read_groups
from deploy.package import read
from deploy.package.contents import RUN_FILES
from deploy.upgrades import preflight, snapshots
from deploy.upgrades.journal import Journal
from deploy.upgrades.machine import Change, UpgradeError, require_upgradable
from deploy.upgrades.place import Place
from deploy.upgrades.plans import Comparison, Fit
from deploy.upgrades.preflight import PreflightError
from deploy.upgrades.releases import unpacked
from deploy.upgrades.target import LATEST, Configuration, Restore, RestoreKind, Snapshot, Target

NO_SNAPSHOT = Comparison(Fit.REBUILD, ("there is no snapshot: it starts from the topics",))


def planned(
    place: Place,
    release: Path | None,
    assignments: tuple[str, ...],
    parallelism: int | None,
    *,
    keep: int,
    rebuild: bool,
    force: bool,
) -> tuple[Change, Comparison]:
    """Preflight: all findings at once; raises PreflightError if something speaks against it."""
    target, seen = place.target, place.target.state()
    require_upgradable(seen, force=force)
    running = target.files(seen.configuration.release)
    if release is not None:
        name, folder = read(release).name, folder_of(place, read(release).name, release)
    elif running is not None:
        name, folder = seen.configuration.release, running
    else:
        raise UpgradeError(f"the files of {seen.configuration.release} are gone; name a release")
    groups = _merged(seen.configuration.properties, property_overrides(assignments))
    wanted = Configuration(name, groups, parallelism or seen.configuration.parallelism)
    if wanted == seen.configuration and not (rebuild or force):
        raise UpgradeError(f"{seen.name} runs {name} with these settings already")
    findings = preflight.settings_findings(folder, groups)
    if findings:
        raise PreflightError(findings)
    last = None
    if force:
        last, comparison = _fitting_last(target, folder, groups)
    else:
        comparison = preflight.fitting(running, folder, seen.configuration.properties, groups)
    if rebuild and comparison.fit is not Fit.REBUILD:
        comparison = Comparison(Fit.REBUILD, ("it would fit, and is left all the same",))
    contracts, notes = preflight.contract_findings(folder, preflight.registry_of(groups))
    if contracts:
        raise PreflightError(contracts)
    for note in notes:
        click.echo(f"note: {note}")
    former = seen.configuration.properties
    wanted, restore = preflight.prepared(former, wanted, comparison.fit, time.time())
    if last is not None and restore == LATEST:
        restore = Restore(RestoreKind.CUSTOM, last.name)
    target.check(wanted, release if release is not None else folder)
    return Change(wanted, release, restore, keep, force), comparison


def _fitting_last(
    target: Target, folder: Path, groups: Groups
) -> tuple[Snapshot | None, Comparison]:
    """The last snapshot, and how its state fits a release."""
    made = snapshots.ready(target)
    if not made:
        return None, NO_SNAPSHOT
    version = target.version(made[-1].version)
    files = target.files(version.release)
    return made[-1], preflight.fitting(files, folder, version.properties, groups)


def way_back(place: Place, last: Journal) -> Change | None:
    """The way back with the present state; None where the plans differ."""
    new, old = (place.target.files(one.release) for one in (last.wanted, last.former))
    if new is None or old is None:
        return None
    fit = preflight.fitting(new, old, last.wanted.properties, last.former.properties).fit
    if fit is not Fit.SAME:
        return None
    wanted, restore = preflight.prepared(last.wanted.properties, last.former, fit, time.time())
    if wanted == last.wanted:
        return None
    return Change(wanted, None, restore, last.keep)


def new_properties(
    place: Place, pipelines: str, file: Path | None, assignments: tuple[str, ...]
) -> Groups:
    """The settings of a new application; raises click.UsageError where there are none."""
    overrides = property_overrides(assignments)
    if file is not None:
        groups = read_groups(file)
    elif place.local:
        from deploy.local import application

        chosen = tuple(name.strip() for name in pipelines.split(","))
        groups = application.property_groups(place.settings, chosen)
    else:
        raise click.UsageError("a new application on aws needs --properties FILE")
    if not place.local:
        groups = {**groups, RUN_OPTIONS: RUN_FILES}
    return _merged(groups, overrides)


def _merged(groups: Groups, overrides: Mapping[str, Mapping[str, str]]) -> Groups:
    merged = {name: dict(values) for name, values in groups.items()}
    for name, values in overrides.items():
        merged.setdefault(name, {}).update(values)
    return merged


def folder_of(place: Place, name: str, release: Path) -> Path:
    """The release's files, unpacked below the platform's home unless they are there."""
    return unpacked(place.settings.home / "releases", name, release)


def property_overrides(assignments: Sequence[str]) -> dict[str, dict[str, str]]:
    """Property groups of `GROUP:NAME=VALUE` texts; raises click.UsageError for any other text."""
    groups: dict[str, dict[str, str]] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        group, colon, prop = name.partition(":")
        if not (equals and colon and group and prop):
            raise click.UsageError(f"--set {text}: expected GROUP:NAME=VALUE")
        groups.setdefault(group, {})[prop] = value
    return groups
