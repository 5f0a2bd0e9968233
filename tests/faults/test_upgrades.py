"""Upgrades on the local cluster while events flow: nothing is lost, whatever becomes of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cli.demos import variants
from deploy.package import read_description
from tests.faults.deployed import ROLLED_BACK, Deployed

pytestmark = pytest.mark.timeout(1_500)


def test_new_code_takes_over_while_events_flow(deployed: Deployed) -> None:
    """On TaskManagers of its own, with the state that the former code left."""
    stage = deployed.stage
    stage.stale_tolerance_ms = 5_000
    two = variants.changed(deployed.release, "2" * 12)
    before = deployed.code_of_workers()
    with deployed.load(seed=21):
        began = time.time()
        done = deployed.tunemesh("upgrade", str(two))
    assert done.code == 0
    assert "the plan is the same, the state fits (same)" in done.output
    status = deployed.status()
    assert (status["status"], status["version"]) == ("RUNNING", 2)
    assert status["release"] == read_description(two).name
    # Of no checkout, and of no former release.
    (code,) = deployed.code_of_workers()
    assert Path(code).name == read_description(two).name
    assert code not in before
    print(f"recovery: {stage.recovery(began)}")
    deployed.clean()


def test_a_version_that_restarts_again_and_again_is_rolled_back(deployed: Deployed) -> None:
    """It compiles, it is RUNNING, and its tasks fail: the former code and state come back."""
    former = deployed.status()["release"]
    bad = variants.restarting(deployed.release, "b" * 12)
    with deployed.load(seed=22):
        done = deployed.tunemesh("upgrade", str(bad))
    assert done.code == ROLLED_BACK
    assert "a bad release" in done.output
    status = deployed.status()
    assert (status["status"], status["release"]) == ("RUNNING", former)
    assert "a bad release" in status["upgrade"]["why"]
    deployed.clean()


def test_a_plan_that_does_not_fit_the_state_is_said_before_and_starts_from_the_topics(
    deployed: Deployed,
) -> None:
    """Refused without a word of consent; with it, users and items are read anew and interactions
    from where the former version was."""
    other = variants.replanned(deployed.release, "c" * 12)
    version = deployed.status()["version"]
    refused = deployed.tunemesh("upgrade", str(other))
    assert refused.code == 3
    assert "is not in the new plan" in refused.output
    assert "--rebuild" in refused.output
    assert deployed.status()["version"] == version
    with deployed.load(seed=23):
        done = deployed.tunemesh("upgrade", str(other), "--rebuild")
    assert done.code == 0
    assert deployed.status()["release"] == read_description(other).name
    deployed.clean()


def test_a_client_that_is_killed_is_followed_by_one_that_continues(deployed: Deployed) -> None:
    """Killed while the job is being replaced; also another parallelism."""
    with deployed.load(seed=24):
        deployed.kill_at("the former version stops", "upgrade", "--parallelism", "1")
        done = deployed.tunemesh("upgrade")
    assert done.code == 0
    assert "continuing the upgrade" in done.output
    status = deployed.status()
    assert (status["parallelism"], status["status"]) == (1, "RUNNING")
    deployed.clean()
