"""Where an internal of Flink is not as expected, that is said; nothing is guessed."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from connectors.flink.internals.java_task import current_task, is_task_cancelled
from connectors.flink.internals.restored import restored_positions
from connectors.flink.internals.version import SUPPORTED, InternalsError, check_version


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_release_of_a_supported_version_will_do(version: str) -> None:
    """Also one with a suffix of its builder's."""
    for release in (version, f"{version}.0", f"{version}.1-build-2"):
        check_version(release)


@pytest.mark.parametrize("version", ["2.1.0", "2.20.0", "3.2.0", "<unknown>"])
def test_another_version_is_refused_with_what_to_do(version: str) -> None:
    """Its internals are not known."""
    with pytest.raises(InternalsError, match=r"not supported.*test_internals\.py"):
        check_version(version)


def test_outside_of_a_jvm_there_is_no_task(caplog: pytest.LogCaptureFixture) -> None:
    """As in process mode, which is no reason to warn."""
    with caplog.at_level(logging.INFO):
        assert current_task() is None
        assert restored_positions() is None
        assert not is_task_cancelled()
    assert caplog.text == ""


class UnknownThread:
    """java.lang.Thread as no version has had it."""

    @staticmethod
    def currentThread() -> UnknownThread:
        return UnknownThread()


def test_a_java_that_is_not_as_expected_is_one_line_and_no_positions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Freshness is estimated then, and its metric says so; the job runs."""
    pemja = ModuleType("pemja")
    pemja.findClass = lambda name: UnknownThread  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pemja", pemja)
    assert restored_positions() is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "freshness is not exact" in record.getMessage()


def test_only_this_package_uses_internals(repository: Path) -> None:
    """Elsewhere nothing would notice that Flink has changed."""
    internal = re.compile(
        r"from pemja|\._j_|java_gateway|setAccessible|getDeclaredField|\$internal"
    )
    folders = ("connectors", "jobs", "batch", "services", "verification", "deploy", "cli")
    users = {
        path.relative_to(repository).parent.as_posix()
        for folder in folders
        for path in (repository / folder).rglob("*.py")
        if internal.search(path.read_text(encoding="utf-8"))
    }
    assert users == {"connectors/flink/internals"}
