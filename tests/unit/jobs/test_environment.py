"""The execution mode: as configured, where this Python supports it."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.flink.interpreter import shared_libpython
from connectors.kafka.tables import KafkaSettings
from jobs import environment
from jobs.environment import execution_mode, local_configuration
from jobs.settings import ApplicationSettings, RegistrySettings

THREAD = ApplicationSettings(
    pipelines=("enrichment",),
    execution_mode="thread",
    group_id="g",
    kafka=KafkaSettings("b:9092"),
    registry=RegistrySettings("us-east-1"),
)
PROCESS = replace(THREAD, execution_mode="process")


def test_thread_mode_is_used_where_the_jvm_can_load_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a notice."""
    monkeypatch.setattr(environment, "shared_libpython", lambda: Path("/lib"))
    assert execution_mode(THREAD) == "thread"
    assert execution_mode(PROCESS) == "process"
    assert capsys.readouterr() == ("", "")


def test_where_it_cannot_process_mode_is_used_with_a_notice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line: why, and what it costs."""
    monkeypatch.setattr(environment, "shared_libpython", lambda: None)
    assert execution_mode(THREAD) == "process"
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    assert errors.startswith("tunemesh: this Python has no shared libpython")
    assert "slower" in errors


def test_configured_process_mode_gives_no_notice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is as configured."""
    monkeypatch.setattr(environment, "shared_libpython", lambda: None)
    assert execution_mode(PROCESS) == "process"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("names", "present", "expected"),
    [
        ({"INSTSONAME": "libpython3.11.so.1.0"}, ["libpython3.11.so.1.0"], True),
        ({"LDLIBRARY": "libpython3.12.dylib"}, ["libpython3.12.dylib"], True),
        ({"INSTSONAME": "libpython3.11.so.1.0"}, [], False),
        ({"INSTSONAME": "libpython3.11.a"}, ["libpython3.11.a"], False),
        ({"INSTSONAME": None, "LDLIBRARY": None}, [], False),
    ],
)
def test_a_shared_libpython_is_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    names: dict[str, str | None],
    present: list[str],
    expected: bool,
) -> None:
    """A static build has an archive; some builds name a library that was not installed."""
    for name in present:
        (tmp_path / name).touch()
    variables = {"LIBDIR": str(tmp_path), **names}
    monkeypatch.setattr(sysconfig, "get_config_var", variables.get)
    assert (shared_libpython() is not None) is expected


def test_the_minicluster_runs_this_python_with_its_packages() -> None:
    """The interpreter inside the JVM does not use the virtual environment."""
    configuration = local_configuration()
    assert configuration["python.executable"] == sys.executable
    paths = configuration["python.pythonpath"].split(os.pathsep)
    assert sysconfig.get_paths()["purelib"] in paths
    assert (Path(paths[0]) / "jobs" / "main.py").exists()
