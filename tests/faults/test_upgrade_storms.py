"""Storms: random changes of a running application, one after the other, while events flow.

A seed says which. After each storm every event of it is reconciled for.
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
from deploy.package import read_description
from schemas.model import load_contracts
from tests.faults.deployed import ROLLED_BACK, Deployed
from tests.faults.stage import START_SECONDS
from tests.support.waiting import wait_until
from verification.flow import Flow

pytestmark = pytest.mark.timeout(3_000)

STEPS = 10
RATE = 50.0
LINES = ("snapshot ", "update to ", "the former version stops", "verify")
"""What an upgrade prints when a step of it begins: an interrupted one ends there."""


class Storm:
    """The steps that can be next, and what must be true after each."""

    def __init__(self, deployed: Deployed, seed: int) -> None:
        self.deployed = deployed
        self.chance = random.Random(seed)
        self.marks = (f"{seed:x}{number:03x}" for number in range(1, 100))
        status = deployed.status()
        self.release = deployed.newest
        self.parallelism: int = status["parallelism"]

    def step(self) -> str:
        """One random step; returns what it was."""
        steps: tuple[Callable[[], None], ...] = (
            self.new_code,
            self.rescale,
            self.setting,
            self.bad_release,
            self.another_plan,
            self.taken_back,
            self.interrupted,
            self.by_force,
            self.taskmanager_killed,
        )
        chosen = self.chance.choice(steps)
        began = time.time()
        chosen()
        status = self.deployed.status()
        assert status["status"] == "RUNNING"
        assert status["release"] == read_description(self.release).name
        assert status["parallelism"] == self.parallelism
        return f"{chosen.__name__} ({time.time() - began:.0f} s)"

    def new_code(self) -> None:
        self.upgraded(variants.changed(self.release, next(self.marks)))

    def another_plan(self) -> None:
        self.upgraded(variants.replanned(self.release, next(self.marks)), "--rebuild")

    def upgraded(self, release: Path, *arguments: str) -> None:
        assert self.deployed.tunemesh("upgrade", str(release), *arguments).code == 0
        self.release = self.deployed.newest = release

    def rescale(self) -> None:
        other = 3 - self.parallelism
        assert self.deployed.tunemesh("upgrade", "--parallelism", str(other)).code == 0
        self.parallelism = other

    def setting(self) -> None:
        name = f"tunemesh.recommendations:max.in.flight={self.chance.randint(20, 1_000)}"
        assert self.deployed.tunemesh("upgrade", "--set", name).code == 0

    def bad_release(self) -> None:
        bad = variants.restarting(self.release, next(self.marks))
        done = self.deployed.tunemesh("upgrade", str(bad))
        assert done.code == ROLLED_BACK
        assert "a bad release" in done.output

    def taken_back(self) -> None:
        """New code, and at once the former one again."""
        release = variants.changed(self.release, next(self.marks))
        assert self.deployed.tunemesh("upgrade", str(release)).code == 0
        assert self.deployed.tunemesh("rollback").code == 0

    def interrupted(self) -> None:
        """The client is killed at one of its steps, and the next one continues."""
        release = variants.changed(self.release, next(self.marks))
        self.deployed.kill_at(self.chance.choice(LINES), "upgrade", str(release))
        assert self.deployed.tunemesh("upgrade").code == 0
        self.release = self.deployed.newest = release

    def by_force(self) -> None:
        """As of a version of which no snapshot can be made."""
        release = variants.changed(self.release, next(self.marks))
        self.upgraded(release, "--force")

    def taskmanager_killed(self) -> None:
        """As a crash: the platform starts it again, and Flink the job."""
        stage = self.deployed.stage
        recorded = process.list_recorded(stage.settings)
        names = sorted(name for name in recorded if name.startswith(TASKMANAGER))
        before = len(stage.failures())
        process.kill(stage.settings, self.chance.choice(names))
        stage.start_missing("flink")
        wait_until(lambda: len(stage.failures()) > before, "Flink has noticed", START_SECONDS)
        wait_until(lambda: stage.rest.all_running(stage.job), "all tasks run again", START_SECONDS)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_storm_of_changes_loses_nothing(deployed: Deployed, seed: int) -> None:
    """Ten steps; nothing lost, invented, or enriched wrongly."""
    stage = deployed.stage
    stage.stale_tolerance_ms = 5_000
    flow = Flow(stage.endpoints, RATE, load_contracts(), seed=seed)
    storm = Storm(deployed, seed)
    for number in range(1, STEPS + 1):
        flow.check()
        print(f"storm {seed}, step {number}: {storm.step()}")
    flow.end()
    deployed.clean()
