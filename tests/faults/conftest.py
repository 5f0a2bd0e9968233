"""The stages of the fault tests; logs, ledger and reports of a failed test are kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from cli.demos import variants
from deploy.local import platform
from deploy.local.settings import LocalSettings
from jobs.settings import PIPELINES
from tests.faults.deployed import DeployedApplication
from tests.faults.full_stage import FullStage
from tests.faults.results import read_results, results_file, summarize
from tests.faults.stage import Stage
from tests.support import ports

MAX_SCENARIOS = 12
"""Of one platform, because every scenario adds records that the reconciliation reads."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record on the stage that a test has failed."""
    report = yield
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Stage):
            value.failed = value.failed or report.failed
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test below this folder for `make test-faults`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the summary of all scenarios, including those of earlier runs."""
    summary = summarize(read_results())
    line = ", ".join(f"{name} {value}" for name, value in summary.items())
    terminalreporter.write_line(f"{results_file()}: {line}")


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A platform for one test."""
    with make_stage() as created:
        yield created


@pytest.fixture(scope="module")
def shared_stage() -> Iterator[Stage]:
    """A running platform for all tests of a module."""
    with make_stage() as running:
        running.start_platform()
        yield running


@pytest.fixture(scope="module")
def deployed(shared_stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> DeployedApplication:
    """An application that runs from its package."""
    folder = tmp_path_factory.mktemp("releases")
    application = DeployedApplication(shared_stage, variants.packaged(folder), folder)
    assert application.deploy("submit", str(application.release)).code == 0
    return application


class FullStages:
    """The platform of the scenarios; a new one after MAX_SCENARIOS, and after a failed one."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._current: FullStage | None = None

    def take(self) -> FullStage:
        """Return the running platform."""
        if (
            self._current is None
            or self._current.failed
            or self._current.scenarios >= MAX_SCENARIOS
        ):
            self.close()
            self._current = self._stack.enter_context(make_full_stage())
        return self._current

    def close(self) -> None:
        """Stop the platform."""
        self._current = None
        self._stack.close()


@pytest.fixture(scope="session")
def full_stages() -> Iterator[FullStages]:
    """For :func:`full_stage`."""
    stages = FullStages()
    try:
        yield stages
    finally:
        stages.close()


@pytest.fixture
def full_stage(full_stages: FullStages) -> FullStage:
    """The shared platform with all pipelines."""
    return full_stages.take()


@pytest.fixture
def split_stage(full_stages: FullStages) -> Iterator[FullStage]:
    """A platform with an application for each pipeline; the shared one is stopped first."""
    full_stages.close()
    with make_full_stage(tuple((name,) for name in PIPELINES)) as running:
        yield running


@contextmanager
def make_full_stage(
    applications: tuple[tuple[str, ...], ...] = (PIPELINES,),
) -> Iterator[FullStage]:
    """Run a platform with these applications."""
    with make_home({"TUNEMESH_TASK_SLOTS": str(len(applications))}) as (settings, environ):
        running = FullStage(settings, environ, ports.free_port(), applications)
        with stopping(running):
            try:
                running.begin()
                yield running
            finally:
                running.end()


@contextmanager
def make_stage() -> Iterator[Stage]:
    """Provide a platform with free ports, which is not started yet."""
    with make_home() as (settings, environ):
        created = Stage(settings, environ)
        with stopping(created):
            yield created


@contextmanager
def make_home(
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[LocalSettings, dict[str, str]]]:
    """Provide settings with free ports and a new folder, and their environment variables."""
    home = Path(tempfile.mkdtemp(prefix="tunemesh-faults-"))
    environ = {**os.environ, "TUNEMESH_HOME": str(home), **ports.variables(), **variables}
    yield LocalSettings.from_environment(environ), environ


@contextmanager
def temporary_home() -> Iterator[tuple[LocalSettings, dict[str, str]]]:
    """The same for a test that starts services: stops them, and removes the folder on success."""
    with make_home() as (settings, environ):
        try:
            yield settings, environ
        except BaseException:
            print(f"logs and reports of the failed test: {settings.home}")
            raise
        else:
            platform.down(settings)
            shutil.rmtree(settings.home)
        finally:
            platform.down(settings)


@contextmanager
def stopping(stage: Stage) -> Iterator[None]:
    """Stop the platform at the end, and remove its folder unless a test has failed."""
    try:
        yield
    finally:
        platform.down(stage.settings)
        if stage.failed:
            shutil.rmtree(stage.settings.home / "data", ignore_errors=True)
            print(f"logs, ledger and reports of the failed test: {stage.settings.home}")
        else:
            shutil.rmtree(stage.settings.home)
