"""A submission is held until it is told to go on, and given up when nobody is there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from connectors.flink.internals.submission import JOB_ID_KEY
from jobs.submission import gate
from jobs.submission.gate import RECOVERY_KEY, CalledOffError, Order


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def written(pipe: Path, *parts: bytes) -> threading.Thread:
    """Somebody who opens the pipe, writes and lets go of it."""

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
    assert gate.wait(pipe) == Order("file:/a", "00ff")
    writer.join()


def test_without_a_savepoint_nothing_is_said_of_one() -> None:
    """Flink's configuration for the submission."""
    assert Order(None, "1").configuration() == {JOB_ID_KEY: "1"}
    assert Order("file:/a", "1").configuration() == {JOB_ID_KEY: "1", RECOVERY_KEY: "file:/a"}


@pytest.mark.parametrize("parts", [(), (b'{"savepoint"',)], ids=["nothing", "half a line"])
def test_it_is_called_off_when_the_other_end_lets_go(pipe: Path, parts: tuple[bytes, ...]) -> None:
    """As when the client of an upgrade is killed."""
    writer = written(pipe, *parts)
    with pytest.raises(CalledOffError, match="nothing was submitted"):
        gate.wait(pipe)
    writer.join()


def test_nobody_is_waited_for_without_end(pipe: Path) -> None:
    """Whoever wanted it was killed before it opened the pipe."""
    with pytest.raises(CalledOffError, match="nobody opened"):
        gate.wait(pipe, 0.05)
