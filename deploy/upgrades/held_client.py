"""Flink's client of a release, started before it is needed and held at its gate."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.local import flink
from deploy.local.flink import FlinkError
from deploy.local.settings import LocalSettings

LOG = "flink-client"
POLL_SECONDS = 0.05
ENDING_SECONDS = 60.0
"""For the client to submit and to end, once it has been let go on."""


class HeldClient:
    """One submission. :meth:`ready`, then :meth:`go`; :meth:`call_off` at any time."""

    def __init__(
        self,
        settings: LocalSettings,
        script: Path,
        arguments: tuple[str, ...],
        configuration: Mapping[str, str],
        python_path: tuple[str, ...],
        environ: Mapping[str, str],
    ) -> None:
        self._script = script
        self._log = settings.log(LOG)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._gate = settings.run / f"gate-{os.getpid()}-{time.time_ns():x}"
        self._gate.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(self._gate, 0o600)
        self._writer: int | None = None
        options = [f"-D{key}={value}" for key, value in configuration.items()]
        launch = flink.client_launch(
            settings, script, [*arguments, "--gate", str(self._gate)], options, python_path
        )
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                launch.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environ, **launch.environment},
                start_new_session=True,
            )

    def ready(self, seconds: float) -> None:
        """Wait until all but the submission is done.

        Raises FlinkError with what the client said when it ends instead, or takes longer.
        """
        deadline = time.monotonic() + seconds
        while self._writer is None:
            try:
                self._writer = os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    raise
                code = self._process.poll()
                if code is not None:
                    flink.submitted_job(self._script, code or 1, self._log)
                if time.monotonic() > deadline:
                    raise FlinkError(
                        f"the client of {self._script} was not ready after {seconds:.0f} s; its"
                        f" log: {self._log}"
                    ) from None
                time.sleep(POLL_SECONDS)

    def go(self, savepoint: str | None, job: str) -> str:
        """Let it submit the job under this id, from a savepoint or from none; the id that it has.

        Raises FlinkError with what the client said when it fails.
        """
        assert self._writer is not None, "not ready"
        told = json.dumps({"savepoint": savepoint, "job": job}).encode() + b"\n"
        try:
            os.write(self._writer, told)
        except BrokenPipeError:
            code = self._process.wait(ENDING_SECONDS)
            return flink.submitted_job(self._script, code or 1, self._log)
        try:
            code = self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            raise FlinkError(
                f"the client of {self._script} did not end within {ENDING_SECONDS:.0f} s after it"
                f" was let go on; its log: {self._log}"
            ) from None
        return flink.submitted_job(self._script, code, self._log)

    def call_off(self) -> None:
        """End it, submitted or not, and remove the gate; safe to call at any time."""
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._gate.unlink(missing_ok=True)
