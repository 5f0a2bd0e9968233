"""`tunemesh down`: the last line names what still runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import main
from deploy.local import process
from deploy.local.process import Launch, Server
from deploy.local.settings import LocalSettings

WAIT = Launch((sys.executable, "-S", "-c", "import signal; signal.pause()"), {})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSettings]:
    """A platform of its own, in which a process runs as the service aws."""
    monkeypatch.setenv("TUNEMESH_HOME", str(tmp_path))
    settings = LocalSettings.from_environment(os.environ)
    server = Server("aws", (), "", lambda: WAIT, lambda: True)
    process.start(settings, server, server.prepare(), os.environ)
    yield settings
    process.stop(settings, "aws", 1)


def test_the_last_line_names_what_still_runs(
    settings: LocalSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the services that were not named."""
    assert main.run(main.tunemesh, ["down", "flink"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "down: still running: aws"
    assert main.run(main.tunemesh, ["down"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "down: no process is left"
