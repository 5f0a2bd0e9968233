"""Servers for tests, each a Python process that is ended by its own id."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.process import is_listening
from deploy.local.settings import HOST, PROJECT, Port
from tests.support.waiting import wait_until


@contextmanager
def python_server(arguments: Sequence[str], port: int) -> Iterator[str]:
    """Run a Python program until the end of the block; yield its address once it listens."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def has_started() -> bool:
        assert process.poll() is None, f"{arguments} ended at its start"
        return is_listening(Port(port, "a free port"))

    try:
        wait_until(has_started, f"{arguments} listens")
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def aws_emulator(port: int, data: Path) -> Iterator[str]:
    """Run the emulator of AWS on this data."""
    arguments = ["-m", "emulators.aws", "--port", str(port), "--data", str(data)]
    with python_server(arguments, port) as url:
        yield url
