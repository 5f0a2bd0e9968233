"""Upgrades on the laptop's cluster while events flow: nothing is lost, whatever becomes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.accounting.replay import ReplaySummary
from deploy.local import process
from deploy.local.flink_workers import TASKMANAGER
from deploy.local.settings import PROJECT
from deploy.package import read
from deploy.upgrades import variants
from tests.faults.stage import Stage

pytestmark = pytest.mark.timeout(1_500)

SECONDS, RATE = 120, 100
COMMAND_SECONDS = 900
ROLLED_BACK = 4


@dataclass(frozen=True, slots=True)
class Done:
    """A `tunemesh deploy` command that has ended."""

    code: int
    output: str


@dataclass(slots=True)
class Deployed:
    """A platform with an application that `tunemesh deploy submit` has started."""

    stage: Stage
    release: Path
    folder: Path

    def tunemesh(self, *arguments: str) -> Done:
        """A command, as an operator gives it."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "deploy", *arguments],
            cwd=self.folder,
            env={**self.stage.environ, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        print(f"$ tunemesh deploy {' '.join(arguments)}\n{done.stdout}[{done.returncode}]")
        assert "Traceback" not in done.stdout
        return Done(done.returncode, done.stdout)

    def status(self) -> dict[str, Any]:
        """What `tunemesh deploy status` says to programs; the test's job, too."""
        found: dict[str, Any] = json.loads(self.tunemesh("status", "--json").output)
        (running,) = self.stage.rest.running_jobs()
        self.stage.job = running.id
        return found

    @contextmanager
    def load(self, seed: int) -> Iterator[Future[ReplaySummary]]:
        """Events beside the block, which must be over before they are."""
        with self.stage.replaying(seconds=SECONDS, rate=RATE, seed=seed) as running:
            yield running

    def code_of_workers(self) -> set[str]:
        """The first folder on the path of each TaskManager: whose code it runs."""
        found = set()
        for name in process.all_recorded(self.stage.settings):
            record = process.recorded(self.stage.settings, name)
            running = process.running(record)
            if name.startswith(TASKMANAGER) and running is not None:
                found.add(psutil.Process(running.pid).environ()["PYTHONPATH"].split(os.pathsep)[0])
        return found

    def clean(self) -> None:
        """Account for the newest run: nothing lost, invented, or enriched wrongly."""
        report = self.stage.verify()
        assert report.ok, report.findings


@pytest.fixture(scope="module")
def deployed(shared_stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The application runs from its package alone."""
    folder = tmp_path_factory.mktemp("releases")
    found = Deployed(shared_stage, variants.packaged(folder), folder)
    done = found.tunemesh("submit", str(found.release))
    assert done.code == 0
    return found


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
    assert status["release"] == read(two).name
    # Of no checkout, and of no former release.
    (code,) = deployed.code_of_workers()
    assert Path(code).name == read(two).name
    assert code not in before
    print(f"recovery: {stage.recovery(began)}")
    deployed.clean()


def test_a_version_that_restarts_for_ever_is_rolled_back(deployed: Deployed) -> None:
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
    assert deployed.status()["release"] == read(other).name
    deployed.clean()


def test_a_client_that_is_killed_is_followed_by_one_that_goes_on(deployed: Deployed) -> None:
    """Killed while the job is being replaced; also another parallelism."""
    with deployed.load(seed=24):
        killed = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", "deploy", "upgrade", "--parallelism", "1"],
            cwd=deployed.folder,
            env={**deployed.stage.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert killed.stdout is not None
        limit = threading.Timer(COMMAND_SECONDS, killed.kill)
        limit.start()
        for line in killed.stdout:
            if "the former version stops" in line:
                killed.kill()
                break
        killed.wait()
        limit.cancel()
        done = deployed.tunemesh("upgrade")
    assert done.code == 0
    assert "going on with the upgrade" in done.output
    status = deployed.status()
    assert (status["parallelism"], status["status"]) == (1, "RUNNING")
    deployed.clean()
