"""The demo with analytics at a size that shows rare differences."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.faults.conftest import temporary_home
from tests.faults.results import write_result

EVENTS, RATE = 100_000, 1_000
SECONDS = 1_500
"""Of the demo on a busy machine."""


@pytest.mark.timeout(SECONDS + 120)
def test_the_demo_with_analytics_reconciles_every_record() -> None:
    """100,000 events with anomalies; every destination has exactly what it must have."""
    arguments = ["demo", "--analytics", "--events", str(EVENTS), "--rate", str(RATE)]
    with temporary_home() as (settings, environ):
        result = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
        report = json.loads((settings.reports / "demo.json").read_text())
    names = ("valid", "lost", "invented", "misenriched", "p50_ms", "p99_ms", "seconds")
    figures = {name: report[name] for name in names}
    write_result("demo with analytics", {"clean": report["ok"], **figures})
    assert (report["lost"], report["invented"], report["misenriched"]) == (0, 0, 0)
    assert report["valid"] == EVENTS
    assert report["dead_letters"] > 0
    assert {"search", "trends", "archive"} <= report["destinations"].keys()
    assert all(destination["ok"] for destination in report["destinations"].values())
