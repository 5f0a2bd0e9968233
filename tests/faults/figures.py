"""What a scenario says in figures, kept in the project's ``reports/faults.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from deploy.local.settings import LocalSettings
from verification.verify import VerifyReport

SUMMARY = "summary"
"""The entry of the report that is about all others."""


def report_file() -> Path:
    """Where the figures are kept."""
    return LocalSettings.from_environment(os.environ).reports / "faults.json"


def read_figures() -> dict[str, dict[str, Any]]:
    """The figures of each scenario as it ran last, without the summary."""
    file = report_file()
    known: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    known.pop(SUMMARY, None)
    return known


def write_figures(scenario: str, figures: Mapping[str, Any]) -> None:
    """Print a scenario's figures and keep them, with a new summary at the end."""
    known = {**read_figures(), scenario: dict(figures)}
    file = report_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**known, SUMMARY: summarize(known)}, indent=1) + "\n")
    print(f"{scenario}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))


def summarize(known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How many scenarios were reconciled, how many are clean, and how long they took."""
    reconciled = [entry for entry in known.values() if "clean" in entry]
    recoveries = [entry["recovery_s"] for entry in reconciled if "recovery_s" in entry]
    return {
        "scenarios": len(reconciled),
        "clean": sum(entry["clean"] for entry in reconciled),
        "recovery_median_s": round(median(recoveries), 1) if recoveries else None,
        "recovery_max_s": max(recoveries, default=None),
    }


def figures(report: VerifyReport, **more: Any) -> dict[str, Any]:
    """What a report says in figures."""
    names = (
        "produced",
        "valid",
        "enriched",
        "enriched_records",
        "accepted",
        "lost",
        "invented",
        "misenriched",
        "emission_p50_ms",
        "emission_p99_ms",
    )
    return {
        "clean": report.ok,
        **{name: getattr(report, name) for name in names},
        "dead_letters": sum(report.dead_letters.values()),
        "findings": len(report.findings),
        **more,
    }


def check_clean(report: VerifyReport) -> None:
    """Everything is reconciled; otherwise the first findings are the message."""
    assert report.ok, "\n".join(
        f"{f.fault.value}: {f.id}  {f.detail}" for f in report.findings[:10]
    )
    assert (report.lost, report.invented, report.misenriched) == (0, 0, 0)
    assert report.valid > 0
