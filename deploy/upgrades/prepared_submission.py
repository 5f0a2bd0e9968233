"""A submission prepared in advance: Flink's client of a release, waiting at its gate."""

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

POLL_SECONDS = 0.05
SUBMIT_SECONDS = 60.0
"""For the client to submit the job and end."""


class PreparedSubmission:
    """One submission: :meth:`wait_ready`, then :meth:`submit`; :meth:`cancel` at any time."""

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
        self._log = settings.log(flink.CLIENT_LOG)
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

    def wait_ready(self, seconds: float) -> None:
        """Wait until everything but the submission is done.

        Raises FlinkError with the client's output when it ends instead, or takes longer.
        """
        deadline = time.monotonic() + seconds
        while self._writer is None:
            try:
                self._writer = os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # the client does not read the gate yet
                    raise
                code = self._process.poll()
                if code is not None:
                    flink.read_job_id(self._script, code or 1, self._log)
                if time.monotonic() > deadline:
                    raise FlinkError(
                        f"the client of {self._script} was not ready after {seconds:.0f} s; its"
                        f" log: {self._log}"
                    ) from None
                time.sleep(POLL_SECONDS)

    def submit(self, savepoint: str | None, job: str) -> str:
        """Submit the job with this id, restored from a savepoint if given; returns its id.

        Raises FlinkError with the client's output when it fails.
        """
        assert self._writer is not None, "wait_ready comes first"
        message = json.dumps({"savepoint": savepoint, "job": job}).encode() + b"\n"
        try:
            os.write(self._writer, message)
        except BrokenPipeError:
            code = self._process.wait(SUBMIT_SECONDS)
            return flink.read_job_id(self._script, code or 1, self._log)
        try:
            code = self._process.wait(SUBMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise FlinkError(
                f"the client of {self._script} did not end within {SUBMIT_SECONDS:.0f} s after it"
                f" was released to submit the job; its log: {self._log}"
            ) from None
        return flink.read_job_id(self._script, code, self._log)

    def cancel(self) -> None:
        """End the client, whether it has submitted the job or not, and remove the gate."""
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
