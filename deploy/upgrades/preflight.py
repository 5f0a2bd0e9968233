"""The checks before an upgrade changes anything: settings, contracts, plan and state.

Settings are validated by the new release's own code, in a separate process; contracts are those in
the release's files. All findings are reported, not only the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from connectors.flink.properties import Groups, entries_of
from connectors.glue.registry import GlueRegistry
from deploy.package.release import read_description
from deploy.upgrades.plans import Comparison, Fit, compare_plans
from deploy.upgrades.target import LATEST, NOTHING, Configuration, Restore
from jobs.main import WRITTEN_ROLES
from jobs.settings import DEFAULT_PIPELINES, PIPELINES, application_settings
from jobs.trends import MAX_DELAY_MS, STATE_TTL_MS
from schemas.compatibility import incompatibilities
from schemas.errors import TunemeshError
from schemas.model import Contract, Contracts, load_contracts

CONTRACTS = Path("schemas") / "contracts"

CHECK_SECONDS = 60


class PreflightError(TunemeshError):
    """An upgrade that must not start, with one line per reason. Nothing was changed."""

    exit_code = 3

    def __init__(self, findings: Iterable[str]) -> None:
        lines = "\n".join(f"  - {finding}" for finding in findings)
        super().__init__(f"the upgrade was not started, nothing was changed:\n{lines}")


def check_settings(release: Path, properties: Groups) -> list[str]:
    """Validate the settings with the release's own code; 0.1.0 cannot check and passes."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.settings", "--check", "/dev/stdin"],
        input=json.dumps(entries_of(properties)),
        # The release's code, not that of this checkout, and none of the operator's environment.
        cwd=release,
        env={"PATH": os.defpath, "PYTHONPATH": str(release)},
        capture_output=True,
        text=True,
        timeout=CHECK_SECONDS,
        check=False,
    )
    if done.returncode == 0:
        return []
    return [(done.stderr.strip().splitlines() or ["settings: cannot be checked"])[-1]]


def check_contracts(release: Path, registry: GlueRegistry) -> tuple[list[str], list[str]]:
    """Compare the release's contracts with those registered.

    Returns what prevents the upgrade, and what the operator should know.
    """
    contracts = load_contracts((release / CONTRACTS,))
    findings, notes = [], []
    for contract in contracts:
        registered = [version.definition for version in registry.registered_versions(contract)]
        known = [json.loads(definition) for definition in registered]
        for version in contract.versions:
            if version.avro in known:
                continue
            faults = incompatibilities(contract.compatibility, version.definition, registered)
            name = f"{contract.name}.v{version.number}"
            if faults:
                findings.append(f"{name} cannot be registered: {'; '.join(faults)}")
            elif _is_written(contract, contracts):
                findings.append(
                    f"{name}, which the application writes, is not registered; run"
                    " `tunemesh schemas register`"
                )
            else:
                notes.append(f"{name} is not registered yet, but can be")
        unreadable = incompatibilities("BACKWARD_ALL", contract.newest.definition, registered)
        if unreadable and not findings:
            findings.append(
                f"{contract.name}: the release cannot read registered versions:"
                f" {'; '.join(unreadable)}"
            )
    return findings, notes


def _is_written(contract: Contract, contracts: Contracts) -> bool:
    return contract in [contracts.only(role) for role in WRITTEN_ROLES]


def connect_registry(properties: Groups) -> GlueRegistry:
    """Connect to the registry of the application's settings."""
    settings = application_settings(properties).registry
    return GlueRegistry.connect(settings.region, settings.endpoint_url, settings.name)


def compare_releases(running: Path | None, new: Path, former: Groups, wanted: Groups) -> Comparison:
    """Return how the state of the running release fits the plan of the new one.

    ``running``: the folder of the running release; None: its files no longer exist.
    """
    former_pipelines, wanted_pipelines = pipelines_of(former), pipelines_of(wanted)
    if removed := [name for name in former_pipelines if name not in wanted_pipelines]:
        reason = f"the state of {','.join(removed)} has no operator without that pipeline"
        return Comparison(Fit.REBUILD, (reason,))
    if running is None:
        return Comparison(Fit.REBUILD, ("the files of the running release no longer exist",))
    old, release = read_description(running), read_description(new)
    try:
        before = old.application_plan(former_pipelines)
        after = release.application_plan(wanted_pipelines)
    except KeyError as error:
        raise PreflightError([f"a release has no plan of the pipeline {error}"]) from error
    if "enrichment" in former_pipelines and old.layout != release.layout:
        reason = "the schema of enriched events has changed, and with it the layout of the state"
        return Comparison(Fit.REBUILD, (reason,))
    return compare_plans(before, after)


def pipelines_of(properties: Groups) -> tuple[str, ...]:
    """Return the pipelines that these settings run, in the order of the plan's name."""
    names = properties.get("tunemesh.application", {}).get("pipelines")
    chosen = [name.strip() for name in names.split(",")] if names else list(DEFAULT_PIPELINES)
    return tuple(name for name in PIPELINES if name in chosen)


def configure_state(
    former: Groups, wanted: Configuration, fit: Fit, now: float
) -> tuple[Configuration, Restore]:
    """Return the configuration with the settings about its state, and where that comes from.

    A pipeline that the former version did not run starts as in a new application. Without state
    (rebuild), users and items are read from the beginning, as always; interactions and enriched
    events from the offsets that the former version's consumer groups have committed, which they do
    with each checkpoint and savepoint, including the one at the stop. Trends are state: their
    events are counted again, from before the oldest minute that is still kept.
    """
    pipelines = pipelines_of(wanted.properties)
    groups = {name: dict(values) for name, values in wanted.properties.items()}
    rebuild = fit is Fit.REBUILD
    if "enrichment" in pipelines:
        enrichment = groups.setdefault("tunemesh.enrichment", {})
        restored = not rebuild and "enrichment" in pipelines_of(former)
        enrichment["restored"] = str(restored).lower()
        if rebuild:
            enrichment["start"] = "committed"
    if rebuild and "recommendations" in pipelines:
        groups.setdefault("tunemesh.recommendations", {})["start"] = "committed"
    if rebuild and "analytics" in pipelines:
        first = int(now * 1000) - STATE_TTL_MS - MAX_DELAY_MS
        groups.setdefault("tunemesh.analytics", {})["start"] = str(first)
    return replace(wanted, properties=groups), NOTHING if rebuild else LATEST
