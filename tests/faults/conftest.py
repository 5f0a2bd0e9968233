"""A stage for the fault tests; its logs, ledger and reports stay when a test on it fails."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deploy.local import platform
from deploy.local.settings import LocalSettings
from tests.faults.stage import Stage

PORTS = (
    "KAFKA", "KAFKA_CONTROLLER", "AWS", "PERSONALIZE", "OPENSEARCH", "FLINK",
    "POSTGRESQL", "DYNAMODB", "SERVICES",
)  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on the stage when a test on it fails."""
    report = yield
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Stage):
            value.failed = value.failed or report.failed
    return report


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A platform of its own for a test."""
    with make_stage() as made:
        yield made


@pytest.fixture(scope="module")
def shared_stage() -> Iterator[Stage]:
    """A platform that runs, for all tests of a module."""
    with make_stage() as made:
        made.start_platform()
        yield made


@contextmanager
def make_stage() -> Iterator[Stage]:
    """Free ports, and a folder that goes unless a test has failed."""
    home = Path(tempfile.mkdtemp(prefix="tunemesh-faults-"))
    ports = zip(PORTS, free_ports(len(PORTS)), strict=True)
    environ = {
        **os.environ,
        "TUNEMESH_HOME": str(home),
        **{f"TUNEMESH_{name}_PORT": str(number) for name, number in ports},
    }
    settings = LocalSettings.from_environment(environ)
    made = Stage(settings, environ)
    try:
        yield made
    finally:
        platform.down(settings)
        if made.failed:
            shutil.rmtree(home / "data", ignore_errors=True)
            print(f"logs, ledger and reports of the failed test: {home}")
        else:
            shutil.rmtree(home)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        trials = [stack.enter_context(socket.socket()) for _ in range(count)]
        for trial in trials:
            trial.bind(("127.0.0.1", 0))
        return [int(trial.getsockname()[1]) for trial in trials]
