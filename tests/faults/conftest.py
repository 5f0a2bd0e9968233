"""A stage for each fault test; its logs and ledger stay when the test fails."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from deploy.local import platform
from deploy.local.settings import LocalSettings
from tests.faults.stage import Stage

PORTS = ("KAFKA", "KAFKA_CONTROLLER", "GLUE", "PERSONALIZE", "FLINK")

failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on the test whether any phase of it failed."""
    report = yield
    item.stash[failed] = item.stash.get(failed, False) or report.failed
    return report


@pytest.fixture
def stage(request: pytest.FixtureRequest, free_port: Callable[[], int]) -> Iterator[Stage]:
    """A platform of its own, on free ports and in a folder that goes unless the test fails."""
    home = Path(tempfile.mkdtemp(prefix="tunemesh-faults-"))
    environ = {
        **os.environ,
        "TUNEMESH_HOME": str(home),
        **{f"TUNEMESH_{name}_PORT": str(free_port()) for name in PORTS},
    }
    settings = LocalSettings.from_environment(environ)
    try:
        yield Stage(request.node.name, settings, environ)
    finally:
        platform.down(settings)
        if request.node.stash.get(failed, False):
            shutil.rmtree(home / "data", ignore_errors=True)
            print(f"logs, ledger and reports of the failed test: {home}")
        else:
            shutil.rmtree(home)
