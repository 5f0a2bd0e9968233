"""A submission that is prepared and then held until it is told to go on.

An upgrade starts the new version's client while the former version still runs: Python, Java and the
planner take seconds, which are then no part of the pause. The client waits at a gate, a named pipe,
for one line: ``{"savepoint": ADDRESS or null, "job": the id that the job is to have}``. Whoever
holds the other end lets go of it, or dies, and the client ends without having submitted anything.
"""

from __future__ import annotations

import json
import os
import select
from pathlib import Path
from typing import NamedTuple

from connectors.flink.internals.submission import job_id_configuration
from schemas.errors import TunemeshError

LONGEST_SECONDS = 900.0
"""For the other end to open the pipe and to write; then nobody is there any more."""

RECOVERY_KEY = "execution.state-recovery.path"


class Order(NamedTuple):
    """What was written through the gate."""

    savepoint: str | None
    job: str

    def configuration(self) -> dict[str, str]:
        """Flink's configuration for the submission."""
        found = job_id_configuration(self.job)
        if self.savepoint is not None:
            found[RECOVERY_KEY] = self.savepoint
        return found


class CalledOffError(TunemeshError):
    """The submission is not wanted any more: nothing was submitted."""


def wait(gate: Path, seconds: float = LONGEST_SECONDS) -> Order:
    """Block until told to go on.

    Opening the pipe tells the other end that all is prepared. Raises CalledOffError.
    """
    reader = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        # On Linux a pipe that nobody has opened for writing yet is not reported as hung up.
        if not poll.poll(seconds * 1000):
            raise CalledOffError(f"nobody opened {gate} for {seconds:.0f} s; nothing was submitted")
        text = b""
        while not text.endswith(b"\n"):
            os.set_blocking(reader, True)
            part = os.read(reader, 65_536)
            if not part:
                raise CalledOffError("the submission was called off; nothing was submitted")
            text += part
    finally:
        os.close(reader)
    return Order(**json.loads(text))
