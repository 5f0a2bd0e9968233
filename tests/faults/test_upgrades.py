"""Upgrades on the local cluster while events flow: no event is lost, also if an upgrade fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cli.demos import variants
from deploy.package.release import read_description
from tests.faults.deployed import ROLLED_BACK, DeployedApplication

pytestmark = pytest.mark.timeout(1_500)


def test_new_code_takes_over_while_events_flow(deployed: DeployedApplication) -> None:
    """On its own TaskManagers, with the state of the former code."""
    stage = deployed.stage
    stage.stale_tolerance_ms = 5_000
    release = variants.changed(deployed.release, "2" * 12)
    before = deployed.worker_code()
    with deployed.replaying(seed=21):
        started = time.time()
        result = deployed.deploy("upgrade", str(release))
    assert result.code == 0
    assert "the plan is the same, the state fits (same)" in result.output
    status = deployed.status()
    assert (status["status"], status["version"]) == ("RUNNING", 2)
    assert status["release"] == read_description(release).name
    # The code is neither that of a checkout nor of a former release.
    (code,) = deployed.worker_code()
    assert Path(code).name == read_description(release).name
    assert code not in before
    print(f"recovery: {stage.recovery(started)}")
    deployed.verify()


def test_a_version_that_restarts_again_and_again_is_rolled_back(
    deployed: DeployedApplication,
) -> None:
    """Its job is RUNNING, but its tasks fail: the former code and state are restored."""
    former = deployed.status()["release"]
    bad = variants.restarting(deployed.release, "b" * 12)
    with deployed.replaying(seed=22):
        result = deployed.deploy("upgrade", str(bad))
    assert result.code == ROLLED_BACK
    assert "a bad release" in result.output
    status = deployed.status()
    assert (status["status"], status["release"]) == ("RUNNING", former)
    assert "a bad release" in status["upgrade"]["why"]
    deployed.verify()


def test_a_plan_that_does_not_match_the_state_is_refused_or_rebuilt(
    deployed: DeployedApplication,
) -> None:
    """Refused without --rebuild; with it, users and items are read again, and interactions from the
    position of the former version."""
    other = variants.replanned(deployed.release, "c" * 12)
    version = deployed.status()["version"]
    refused = deployed.deploy("upgrade", str(other))
    assert refused.code == 3
    assert "is not in the new plan" in refused.output
    assert "--rebuild" in refused.output
    assert deployed.status()["version"] == version
    with deployed.replaying(seed=23):
        result = deployed.deploy("upgrade", str(other), "--rebuild")
    assert result.code == 0
    assert deployed.status()["release"] == read_description(other).name
    deployed.verify()


def test_a_client_that_is_killed_is_followed_by_one_that_continues(
    deployed: DeployedApplication,
) -> None:
    """Killed while the job is being replaced, with another parallelism."""
    with deployed.replaying(seed=24):
        deployed.kill_at("the former version stops", "upgrade", "--parallelism", "1")
        result = deployed.deploy("upgrade")
    assert result.code == 0
    assert "continuing the upgrade" in result.output
    status = deployed.status()
    assert (status["parallelism"], status["status"]) == (1, "RUNNING")
    deployed.verify()
