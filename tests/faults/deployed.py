"""An application that `tunemesh deploy` has started, and what an operator does to it."""

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

import psutil

from deploy.local import process
from deploy.local.flink_workers import TASKMANAGER
from deploy.local.settings import PROJECT
from tests.faults.stage import Stage
from verification.replay import ReplaySummary

SECONDS, RATE = 120, 100
COMMAND_SECONDS = 900
ROLLED_BACK = 4


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    output: str


@dataclass(slots=True)
class Deployed:
    """A platform with an application that `tunemesh deploy submit` has started."""

    stage: Stage
    release: Path
    folder: Path
    newest: Path = field(init=False)
    """The release that a test has brought last."""

    def __post_init__(self) -> None:
        self.newest = self.release

    def tunemesh(self, *arguments: str) -> Done:
        """A `tunemesh deploy` command, as an operator gives it."""
        return self.command("deploy", *arguments)

    def command(self, *arguments: str) -> Done:
        """Any command of `tunemesh`."""
        done = subprocess.run(
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
        print(f"$ tunemesh {' '.join(arguments)}\n{done.stdout}[{done.returncode}]")
        assert "Traceback" not in done.stdout
        return Done(done.returncode, done.stdout)

    def kill_at(self, line: str, *arguments: str) -> None:
        """A command whose process is killed when it prints a line, if it does."""
        killed = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "deploy", *arguments],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert killed.stdout is not None
        limit = threading.Timer(COMMAND_SECONDS, killed.kill)
        limit.start()
        for printed in killed.stdout:
            if line in printed:
                killed.kill()
                break
        killed.wait()
        limit.cancel()

    def _environment(self) -> dict[str, str]:
        return {**self.stage.environ, "PYTHONPATH": str(PROJECT)}

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
        for name in process.list_recorded(self.stage.settings):
            record = process.read_record(self.stage.settings, name)
            running = process.find_process(record)
            if name.startswith(TASKMANAGER) and running is not None:
                found.add(psutil.Process(running.pid).environ()["PYTHONPATH"].split(os.pathsep)[0])
        return found

    def clean(self) -> None:
        """Reconcile the newest run: nothing lost, invented, or enriched wrongly."""
        report = self.stage.verify()
        assert report.ok, report.findings
