"""Sequences of random changes to a running application while events flow.

The seed determines the changes. After each sequence all events are reconciled.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.demos import variants
from deploy.local import process
from deploy.local.flink_workers import TASKMANAGER
from deploy.package.release import read_description
from schemas.model import load_contracts
from tests.faults.deployed import ROLLED_BACK, DeployedApplication
from tests.faults.stage import START_SECONDS
from tests.support.waiting import wait_until
from verification.flow import Flow

pytestmark = pytest.mark.timeout(3_000)

STEPS = 10
RATE = 50.0
LINES = ("snapshot ", "update to ", "the former version stops", "verify")
"""The lines that an upgrade prints at the start of a step; it is interrupted at one of them."""


class Storm:
    """Random changes, and the expected state after each of them."""

    def __init__(self, deployed: DeployedApplication, seed: int) -> None:
        self.deployed = deployed
        self.random = random.Random(seed)
        self.marks = (f"{seed:x}{number:03x}" for number in range(1, 100))
        status = deployed.status()
        self.release = deployed.newest
        self.parallelism: int = status["parallelism"]

    def step(self) -> str:
        """Run a random step; returns its name and duration."""
        steps: tuple[Callable[[], None], ...] = (
            self.change_code,
            self.rescale,
            self.change_setting,
            self.deploy_bad_release,
            self.change_plan,
            self.roll_back,
            self.interrupt,
            self.force,
            self.kill_taskmanager,
        )
        step = self.random.choice(steps)
        started = time.time()
        step()
        status = self.deployed.status()
        assert status["status"] == "RUNNING"
        assert status["release"] == read_description(self.release).name
        assert status["parallelism"] == self.parallelism
        return f"{step.__name__} ({time.time() - started:.0f} s)"

    def change_code(self) -> None:
        self.upgrade(variants.changed(self.release, next(self.marks)))

    def change_plan(self) -> None:
        self.upgrade(variants.replanned(self.release, next(self.marks)), "--rebuild")

    def upgrade(self, release: Path, *arguments: str) -> None:
        assert self.deployed.deploy("upgrade", str(release), *arguments).code == 0
        self.release = self.deployed.newest = release

    def rescale(self) -> None:
        other = 3 - self.parallelism
        assert self.deployed.deploy("upgrade", "--parallelism", str(other)).code == 0
        self.parallelism = other

    def change_setting(self) -> None:
        name = f"tunemesh.recommendations:max.in.flight={self.random.randint(20, 1_000)}"
        assert self.deployed.deploy("upgrade", "--set", name).code == 0

    def deploy_bad_release(self) -> None:
        bad = variants.restarting(self.release, next(self.marks))
        result = self.deployed.deploy("upgrade", str(bad))
        assert result.code == ROLLED_BACK
        assert "a bad release" in result.output

    def roll_back(self) -> None:
        """New code, and a rollback directly after it."""
        release = variants.changed(self.release, next(self.marks))
        assert self.deployed.deploy("upgrade", str(release)).code == 0
        assert self.deployed.deploy("rollback").code == 0

    def interrupt(self) -> None:
        """The client is killed at one of its steps, and the next client continues."""
        release = variants.changed(self.release, next(self.marks))
        self.deployed.kill_at(self.random.choice(LINES), "upgrade", str(release))
        assert self.deployed.deploy("upgrade").code == 0
        self.release = self.deployed.newest = release

    def force(self) -> None:
        """As for a version whose snapshots fail."""
        release = variants.changed(self.release, next(self.marks))
        self.upgrade(release, "--force")

    def kill_taskmanager(self) -> None:
        """The platform starts it again, and Flink restarts the job."""
        stage = self.deployed.stage
        recorded = process.list_recorded(stage.settings)
        names = sorted(name for name in recorded if name.startswith(TASKMANAGER))
        before = len(stage.failures())
        process.kill(stage.settings, self.random.choice(names))
        stage.start_missing("flink")
        wait_until(lambda: len(stage.failures()) > before, "the job has failed", START_SECONDS)
        wait_until(lambda: stage.rest.all_running(stage.job), "all tasks run again", START_SECONDS)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_storm_of_changes_loses_nothing(deployed: DeployedApplication, seed: int) -> None:
    """In ten steps no event is lost, invented or wrongly enriched."""
    stage = deployed.stage
    stage.stale_tolerance_ms = 5_000
    flow = Flow(stage.endpoints, RATE, load_contracts(), seed=seed)
    storm = Storm(deployed, seed)
    for number in range(1, STEPS + 1):
        flow.check()
        print(f"storm {seed}, step {number}: {storm.step()}")
    flow.end()
    deployed.verify()
