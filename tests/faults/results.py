"""The results of the scenarios, in the project's ``reports/faults.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from connectors.files import write_report
from deploy.local.settings import LocalSettings
from verification.verify import VerifyReport

SUMMARY = "summary"
"""The entry with the summary of all others."""


def results_file() -> Path:
    """Return the file of the results."""
    return LocalSettings.from_environment(os.environ).reports / "faults.json"


def read_results() -> dict[str, dict[str, Any]]:
    """Return the result of the last run of each scenario, without the summary."""
    file = results_file()
    results: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    results.pop(SUMMARY, None)
    return results


def write_result(scenario: str, result: Mapping[str, Any]) -> None:
    """Print the result of a scenario and add it to the file, with a new summary."""
    results = {**read_results(), scenario: dict(result)}
    write_report(results_file(), {**results, SUMMARY: summarize(results)})
    print(f"{scenario}: " + ", ".join(f"{name} {value}" for name, value in result.items()))


def summarize(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the numbers of reconciled and clean scenarios, and their recovery times."""
    reconciled = [entry for entry in results.values() if "clean" in entry]
    recoveries = [entry["recovery_s"] for entry in reconciled if "recovery_s" in entry]
    return {
        "scenarios": len(reconciled),
        "clean": sum(entry["clean"] for entry in reconciled),
        "recovery_median_s": round(median(recoveries), 1) if recoveries else None,
        "recovery_max_s": max(recoveries, default=None),
    }


def result_of(report: VerifyReport, **more: Any) -> dict[str, Any]:
    """Return the result of a scenario from its report."""
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
    """Fail with the first findings unless the report is clean."""
    assert report.ok, "\n".join(
        f"{f.fault.value}: {f.id}  {f.detail}" for f in report.findings[:10]
    )
    assert (report.lost, report.invented, report.misenriched) == (0, 0, 0)
    assert report.valid > 0
