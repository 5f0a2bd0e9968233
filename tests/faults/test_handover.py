"""From the import in bulk to the stream: each interaction is known to Personalize exactly once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.faults.conftest import temporary_home
from tests.faults.figures import write_figures

SECONDS = 1_500
"""Of the whole demo, on a machine that has much else to do."""


@pytest.mark.timeout(SECONDS + 120)
def test_every_interaction_comes_in_exactly_one_way() -> None:
    """By the demo's reconciliation report: events flow while the hand-over time passes."""
    with temporary_home() as (settings, environ):
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "bootstrap-demo", "--events", "4000"],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        report = json.loads((settings.reports / "bootstrap.json").read_text())
    write_figures("hand-over from import to stream", {"seconds": report["seconds"]})
    assert (report["lost"], report["invented"], report["twice"]) == (0, 0, 0)
    # Both ways, else it would say nothing; with the anonymous ones it is all of them.
    assert min(report["imported"], report["streamed"]) > 500
    assert report["imported"] + report["streamed"] == report["interactions"]
    assert report["interactions"] + report["rejected_by_reason"].get("no_user", 0) == 4_000
    assert all(report["recommended_after"].values())
    assert report["recommended_before"] != report["recommended_after"]
