"""A submission is held until its request arrives, and cancelled when the other end is gone."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from connectors.flink.internals.submission import JOB_ID_KEY
from jobs.submission import gate
from jobs.submission.gate import RECOVERY_KEY, SubmissionCancelled, SubmissionRequest


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def written(pipe: Path, *parts: bytes) -> threading.Thread:
    """Open the pipe, write and close it, as the other end does."""

    def write() -> None:
        with pipe.open("wb", buffering=0) as end:
            for part in parts:
                end.write(part)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_it_goes_on_with_what_was_written(pipe: Path) -> None:
    """Also in pieces."""
    writer = written(pipe, b'{"savepoint": "file:/a",', b' "job": "00ff"}\n')
    assert gate.wait(pipe) == SubmissionRequest("file:/a", "00ff")
    writer.join()


def test_without_a_savepoint_nothing_is_said_of_one() -> None:
    """Flink's configuration for the submission."""
    assert SubmissionRequest(None, "1").configuration() == {JOB_ID_KEY: "1"}
    assert SubmissionRequest("file:/a", "1").configuration() == {
        JOB_ID_KEY: "1",
        RECOVERY_KEY: "file:/a",
    }


@pytest.mark.parametrize("parts", [(), (b'{"savepoint"',)], ids=["nothing", "half a line"])
def test_it_is_cancelled_when_the_other_end_closes(pipe: Path, parts: tuple[bytes, ...]) -> None:
    """As when the client of an upgrade is killed."""
    writer = written(pipe, *parts)
    with pytest.raises(SubmissionCancelled, match="nothing was submitted"):
        gate.wait(pipe)
    writer.join()


def test_nobody_is_waited_for_without_end(pipe: Path) -> None:
    """Whoever wanted it was killed before it opened the pipe."""
    with pytest.raises(SubmissionCancelled, match="was not opened"):
        gate.wait(pipe, 0.05)
