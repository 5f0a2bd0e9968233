"""An application that `tunemesh deploy` has started, and the commands of an operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local import process
from deploy.local.flink_workers import TASKMANAGER
from deploy.local.settings import PROJECT
from tests.faults.stage import Stage
from verification.replay import ReplaySummary

SECONDS, RATE = 120, 100
COMMAND_SECONDS = 900
ROLLED_BACK = 4


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit code and output of a command."""

    code: int
    output: str


@dataclass(slots=True)
class DeployedApplication:
    """A platform with an application that `tunemesh deploy submit` has started."""

    stage: Stage
    release: Path
    folder: Path
    newest: Path = field(init=False)
    """The release of the last upgrade."""

    def __post_init__(self) -> None:
        self.newest = self.release

    def deploy(self, *arguments: str) -> CommandResult:
        """Run a `tunemesh deploy` command."""
        return self.run("deploy", *arguments)

    def run(self, *arguments: str) -> CommandResult:
        """Run a `tunemesh` command."""
        result = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        print(f"$ tunemesh {' '.join(arguments)}\n{result.stdout}[{result.returncode}]")
        assert "Traceback" not in result.stdout
        return CommandResult(result.returncode, result.stdout)

    def kill_at(self, line: str, *arguments: str) -> None:
        """Run a `tunemesh deploy` command and kill it when it prints a line."""
        command = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "deploy", *arguments],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert command.stdout is not None
        limit = threading.Timer(COMMAND_SECONDS, command.kill)
        limit.start()
        for printed in command.stdout:
            if line in printed:
                command.kill()
                break
        command.wait()
        limit.cancel()

    def _environment(self) -> dict[str, str]:
        return {**self.stage.environ, "PYTHONPATH": str(PROJECT)}

    def status(self) -> dict[str, Any]:
        """Return the output of `tunemesh deploy status --json`, and update the job of the stage."""
        status: dict[str, Any] = json.loads(self.deploy("status", "--json").output)
        (running,) = self.stage.rest.running_jobs()
        self.stage.job = running.id
        return status

    @contextmanager
    def replaying(self, seed: int) -> Iterator[Future[ReplaySummary]]:
        """Replay events while the block runs, which must end before the replay."""
        with self.stage.replaying(seconds=SECONDS, rate=RATE, seed=seed) as running:
            yield running

    def worker_code(self) -> set[str]:
        """Return the first folder of PYTHONPATH of each TaskManager, which has its code."""
        folders = set()
        for name in process.list_recorded(self.stage.settings):
            record = process.read_record(self.stage.settings, name)
            running = process.find_process(record)
            if name.startswith(TASKMANAGER) and running is not None:
                folders.add(running.environ()["PYTHONPATH"].split(os.pathsep)[0])
        return folders

    def verify(self) -> None:
        """Reconcile the newest run; fails if an event is lost, invented or wrongly enriched."""
        report = self.stage.verify()
        assert report.ok, report.findings
