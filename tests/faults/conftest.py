"""A stage for the fault tests; its logs, ledger and reports stay when a test on it fails."""

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
from tests.faults.deployed import Deployed
from tests.faults.figures import read_figures, report_file, summarize
from tests.faults.full_stage import FullStage
from tests.faults.stage import Stage
from tests.support import ports

MAX_SCENARIOS = 12
"""Of one platform: what the reconciliation reads grows with each of them."""


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test below this folder is one of `make test-faults`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The scenarios in a line: of this run, and those before it that did not run again."""
    found = summarize(read_figures())
    line = ", ".join(f"{name} {value}" for name, value in found.items())
    terminalreporter.write_line(f"{report_file()}: {line}")


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


@pytest.fixture(scope="module")
def deployed(shared_stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The application runs from its package alone."""
    folder = tmp_path_factory.mktemp("releases")
    found = Deployed(shared_stage, variants.packaged(folder), folder)
    done = found.tunemesh("submit", str(found.release))
    assert done.code == 0
    return found


class FullStages:
    """The platform that the scenarios share; another one after so many, or after a failed one."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._present: FullStage | None = None

    def take(self) -> FullStage:
        """The platform, running."""
        if (
            self._present is None
            or self._present.failed
            or self._present.scenarios >= MAX_SCENARIOS
        ):
            self.close()
            self._present = self._stack.enter_context(make_full_stage())
        return self._present

    def close(self) -> None:
        """Stop the platform."""
        self._present = None
        self._stack.close()


@pytest.fixture(scope="session")
def full_stages() -> Iterator[FullStages]:
    """For :func:`full_stage`."""
    made = FullStages()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def full_stage(full_stages: FullStages) -> FullStage:
    """The platform with all pipelines that the scenarios share."""
    return full_stages.take()


@pytest.fixture
def split_stage(full_stages: FullStages) -> Iterator[FullStage]:
    """A platform with an application for each pipeline; the shared one is stopped before."""
    full_stages.close()
    with make_full_stage(tuple((name,) for name in PIPELINES)) as made:
        yield made


@contextmanager
def make_full_stage(
    applications: tuple[tuple[str, ...], ...] = (PIPELINES,),
) -> Iterator[FullStage]:
    """A platform with these applications, running."""
    with make_home({"TUNEMESH_TASK_SLOTS": str(len(applications))}) as (settings, environ):
        made = FullStage(settings, environ, ports.free_port(), applications)
        with stopping(made):
            try:
                made.begin()
                yield made
            finally:
                made.end()


@contextmanager
def make_stage() -> Iterator[Stage]:
    """A platform with free ports of its own; nothing of it is started yet."""
    with make_home() as (settings, environ):
        made = Stage(settings, environ)
        with stopping(made):
            yield made


@contextmanager
def make_home(
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[LocalSettings, dict[str, str]]]:
    """Settings with free ports, a folder and these variables; and the environment that says so."""
    home = Path(tempfile.mkdtemp(prefix="tunemesh-faults-"))
    environ = {
        **os.environ,
        "TUNEMESH_HOME": str(home),
        **ports.variables(),
        **variables,
    }
    yield LocalSettings.from_environment(environ), environ


@contextmanager
def temporary_home() -> Iterator[tuple[LocalSettings, dict[str, str]]]:
    """The same for a test that starts its parts itself: stopped, and removed unless it failed."""
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
def stopping(made: Stage) -> Iterator[None]:
    """Stops the platform at the end; its folder goes unless a test has failed."""
    try:
        yield
    finally:
        platform.down(made.settings)
        if made.failed:
            shutil.rmtree(made.settings.home / "data", ignore_errors=True)
            print(f"logs, ledger and reports of the failed test: {made.settings.home}")
        else:
            shutil.rmtree(made.settings.home)
