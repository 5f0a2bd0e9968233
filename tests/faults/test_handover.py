"""From the bulk import to the stream: Personalize has each interaction exactly once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.faults.conftest import temporary_home
from tests.faults.results import write_result

SECONDS = 1_500
"""Of the demo on a busy machine."""


@pytest.mark.timeout(SECONDS + 120)
def test_every_interaction_is_imported_or_streamed() -> None:
    """By the demo's reconciliation report; events flow during the hand-over time."""
    with temporary_home() as (settings, environ):
        result = subprocess.run(
            [sys.executable, "-m", "cli.main", "bootstrap-demo", "--events", "4000"],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
        report = json.loads((settings.reports / "bootstrap.json").read_text())
    write_result("hand-over from import to stream", {"seconds": report["seconds"]})
    assert (report["lost"], report["invented"], report["twice"]) == (0, 0, 0)
    # Both are used, and with the anonymous ones they are all interactions.
    assert min(report["imported"], report["streamed"]) > 500
    assert report["imported"] + report["streamed"] == report["interactions"]
    assert report["interactions"] + report["rejected_by_reason"].get("no_user", 0) == 4_000
    assert all(report["recommended_after"].values())
    assert report["recommended_before"] != report["recommended_after"]
