"""A submission that is prepared, and then held until its request arrives.

An upgrade starts the new version's client while the former version still runs: Python, Java and the
planner take seconds, which then do not lengthen the pause. The client waits at a gate, a named
pipe, for one line: ``{"savepoint": ADDRESS or null, "job": the id that the job is to have}``. When
the other end closes the pipe without it, or dies, the client ends without having submitted
anything.
"""

from __future__ import annotations

import json
import os
import select
from pathlib import Path
from typing import NamedTuple

from connectors.flink.internals.submission import job_id_configuration
from schemas.errors import TunemeshError

MAX_WAIT_SECONDS = 900.0
"""For the other end to open the pipe and to write; after that it is taken to have died."""

RECOVERY_KEY = "execution.state-recovery.path"


class SubmissionRequest(NamedTuple):
    """What was written through the gate."""

    savepoint: str | None
    job: str

    def configuration(self) -> dict[str, str]:
        """Flink's configuration for the submission."""
        configuration = job_id_configuration(self.job)
        if self.savepoint is not None:
            configuration[RECOVERY_KEY] = self.savepoint
        return configuration


class SubmissionCancelled(TunemeshError):
    """The submission was cancelled: nothing was submitted."""


def wait(gate: Path, seconds: float = MAX_WAIT_SECONDS) -> SubmissionRequest:
    """Block until the request arrives, and return it; raises SubmissionCancelled.

    Opening the pipe signals to the other end that everything is prepared.
    """
    reader = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        # On Linux a pipe that nobody has opened for writing yet is not reported as hung up.
        if not poll.poll(seconds * 1000):
            raise SubmissionCancelled(
                f"{gate} was not opened within {seconds:.0f} s; nothing was submitted"
            )
        text = b""
        while not text.endswith(b"\n"):
            os.set_blocking(reader, True)
            part = os.read(reader, 65_536)
            if not part:
                raise SubmissionCancelled("the submission was cancelled; nothing was submitted")
            text += part
    finally:
        os.close(reader)
    return SubmissionRequest(**json.loads(text))
