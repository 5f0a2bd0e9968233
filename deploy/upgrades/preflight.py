"""What is looked at before anything is touched: settings, contracts, plan and state.

The new release's own code judges its settings, in a process of its own; its contracts are those in
its files. Every finding is told, not only the first.
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
from deploy.package import read
from deploy.upgrades.plans import Comparison, Fit, compare
from deploy.upgrades.target import LATEST, NOTHING, Configuration, Restore
from jobs.settings import DEFAULT_PIPELINES, PIPELINES, application_settings
from jobs.trends import KEEP_MS, LATEST_MS
from schemas.compatibility import incompatibilities
from schemas.errors import TunemeshError
from schemas.model import Contract, Contracts, Role, load_contracts

CONTRACTS = Path("schemas") / "contracts"

WRITTEN = (Role.ENRICHED, Role.DEAD_LETTER, Role.DELETION, Role.TREND)
"""What the application writes; it does not start unless these are registered."""

CHECK_SECONDS = 60


class PreflightError(TunemeshError):
    """An upgrade that must not begin; one line for each reason. Nothing was touched."""

    exit_code = 3

    def __init__(self, findings: Iterable[str]) -> None:
        lines = "\n".join(f"  - {finding}" for finding in findings)
        super().__init__(f"the upgrade was not begun, nothing was touched:\n{lines}")


def settings_findings(release: Path, properties: Groups) -> list[str]:
    """What the release's own code says against the settings; 0.1.0 cannot check and passes."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.settings", "--check", "/dev/stdin"],
        input=json.dumps(entries_of(properties)),
        # The release's code, not that of this checkout.
        cwd=release,
        env={**os.environ, "PYTHONPATH": str(release)},
        capture_output=True,
        text=True,
        timeout=CHECK_SECONDS,
        check=False,
    )
    if done.returncode == 0:
        return []
    return [(done.stderr.strip().splitlines() or ["settings: cannot be checked"])[-1]]


def contract_findings(release: Path, registry: GlueRegistry) -> tuple[list[str], list[str]]:
    """What speaks against the release's contracts beside what is registered, and what is only to
    be known."""
    contracts = load_contracts((release / CONTRACTS,))
    findings, notes = [], []
    for contract in contracts:
        registered = [one.definition for one in registry.registered_versions(contract)]
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
                notes.append(f"{name} is not registered yet; it can be")
        unreadable = incompatibilities("BACKWARD_ALL", contract.newest.definition, registered)
        if unreadable and not findings:
            findings.append(
                f"{contract.name}: the release cannot read what is registered:"
                f" {'; '.join(unreadable)}"
            )
    return findings, notes


def _is_written(contract: Contract, contracts: Contracts) -> bool:
    return contract in [contracts.only(role) for role in WRITTEN]


def registry_of(properties: Groups) -> GlueRegistry:
    """The registry that the application's settings name."""
    settings = application_settings(properties).registry
    return GlueRegistry.connect(settings.region, settings.endpoint_url, settings.name)


def fitting(running: Path | None, new: Path, former: Groups, wanted: Groups) -> Comparison:
    """How the state of the running release (its files; None: gone) fits the new one's plan."""
    was, will = pipelines_of(former), pipelines_of(wanted)
    if removed := [pipeline for pipeline in was if pipeline not in will]:
        reason = f"the state of {','.join(removed)} has no operator without that pipeline"
        return Comparison(Fit.REBUILD, (reason,))
    if running is None:
        return Comparison(Fit.REBUILD, ("the running release's files are not there any more",))
    one, other = read(running), read(new)
    try:
        before, after = one.application_plan(was), other.application_plan(will)
    except KeyError as error:
        raise PreflightError([f"a release has no plan of the pipeline {error}"]) from error
    if "enrichment" in was and one.layout != other.layout:
        reason = "what is kept of users, items and events is laid out in another way"
        return Comparison(Fit.REBUILD, (f"{reason}: the schema of enriched events has changed",))
    return compare(before, after)


def pipelines_of(properties: Groups) -> tuple[str, ...]:
    """What an application with these settings runs, in the order of its plan's name."""
    named = properties.get("tunemesh.application", {}).get("pipelines")
    chosen = [name.strip() for name in named.split(",")] if named else list(DEFAULT_PIPELINES)
    return tuple(name for name in PIPELINES if name in chosen)


def prepared(
    former: Groups, wanted: Configuration, fit: Fit, now: float
) -> tuple[Configuration, Restore]:
    """The configuration with what it must be told of its state, and where that comes from.

    A pipeline that the former version did not run starts as in a new application. Without state
    (rebuild) users and items are read from the beginning, as ever; interactions and enriched events
    from what the former version's consumer groups have committed, which they do with each
    checkpoint and savepoint, the one at the stop too. Trends are state: their events are counted
    again, from before the oldest minute that is still kept.
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
        first = int(now * 1000) - KEEP_MS - LATEST_MS
        groups.setdefault("tunemesh.analytics", {})["start"] = str(first)
    return replace(wanted, properties=groups), NOTHING if rebuild else LATEST
