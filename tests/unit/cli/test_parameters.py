"""Options are checked before a command connects to a service: no service runs in these tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import main
from connectors.clock import now_ms
from tests.support.ports import free_port
from verification.ledger import Ledger, ledger_path

FUTURE = "2999-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no service aws."""
    monkeypatch.setenv("TUNEMESH_HOME", str(tmp_path))
    monkeypatch.setenv("TUNEMESH_AWS_PORT", str(free_port()))
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("export interactions --until tomorrow", "'tomorrow' is no timestamp"),
        (f"export interactions --until {FUTURE}", f"{FUTURE} is in the future"),
        (f"bootstrap --until {FUTURE}", f"{FUTURE} is in the future"),
        (f"bootstrap --since {FUTURE}", f"{FUTURE} is in the future"),
        ("bootstrap --since 2 --until 2", "--since 2 is not before --until 2"),
        ("bootstrap --from s3://b/r/ --until 0", "--since and --until are options of the job"),
        ("export songs --kafka 127.0.0.1:1", "--kafka waits for records published before"),
        ("export audiobooks", "there is no contract 'audiobooks'; there are: "),
        ("export trends", "trends has the role trend, expected user, item, interaction"),
        ("export songs --most-rejected nan", "nan is not a finite number"),
        ("export songs --point-in-time export/", "'export/' is no location"),
        ("export users --point-in-time s3://b/e/", "name its domain alone"),
        ("export songs podcasts --point-in-time s3://b/e/", "name its domain alone"),
        ("export interactions --archive http://b/", "'http://b/' is no location"),
        ("catalog register audiobooks", "there is no contract 'audiobooks'"),
        ("schemas diff audiobooks", "there is no contract 'audiobooks'"),
        ("replay --generate 10 --rate nan", "nan is not a finite number"),
        ("replay --generate 10 --rate inf", "inf is not a finite number"),
        ("replay --generate 10 --users 0", "0 is not in the range x>=12"),
        ("replay --generate 10 --songs 11", "11 is not in the range x>=12"),
        ("replay --generate 10 --malformed 1", "1.0 is not in the range 0<=x<1"),
        ("replay . --users 50", "--users is an option of --generate"),
        ("replay --generate 10 --run a/b", "'a/b' is no run name"),
        ("verify --wait nan", "nan is not a finite number"),
        ("verify --quiet inf", "inf is not a finite number"),
        ("verify --run ../other", "'../other' is no run name"),
        ("demo --rate nan", "nan is not a finite number"),
        ("submit --set pipelines=analytics", "expected GROUP:NAME=VALUE"),
        ("dlq show songs/0/1", "'songs/0/1' is no position of a record; expected TOPIC:PART"),
        ("dlq replay songs:0:1 songs:0", "'songs:0' is no position of a record"),
        ("deploy status --application a/b", "'a/b' is no application name"),
        ("deploy snapshots --create a:b", "'a:b' is no snapshot name"),
        (f"deploy snapshots --create {257 * 'x'}", "expected up to 256 letters"),
        (
            "deploy upgrade --set pipelines=analytics --target aws --region eu-west-1 --bucket b",
            "expected GROUP:NAME=VALUE",
        ),
    ],
)
def test_an_option_that_cannot_be_used_is_wrong_usage(
    line: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the value."""
    code = main.run(main.tunemesh, line.split())
    assert expected in capsys.readouterr().err
    assert code == 2


def test_now_is_not_in_the_future(capsys: pytest.CaptureFixture[str]) -> None:
    """The command goes on to the service that it needs."""
    assert main.run(main.tunemesh, ["export", "interactions", "--until", str(now_ms())]) == 1
    assert "the service aws does not answer" in capsys.readouterr().err


def create_other_database(file: Path) -> None:
    file.parent.mkdir()
    sqlite3.connect(file).close()


@pytest.mark.parametrize(
    ("prepare", "line", "error"),
    [
        (lambda file: None, "verify --run monday", "{file} does not exist"),
        # A replay writes a ledger of its own.
        (
            lambda file: Ledger.create(file, {}).close(),
            "replay --generate 9 --run monday",
            "monday.sqlite exists already",
        ),
        (create_other_database, "verify --run monday", "monday.sqlite: not a ledger"),
    ],
    ids=["absent", "present", "no ledger"],
)
def test_a_run_that_cannot_be_used_is_named_first(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Path], None],
    line: str,
    error: str,
) -> None:
    """Not the service that the command needs; without a traceback."""
    file = ledger_path(home, "monday")
    prepare(file)
    assert main.run(main.tunemesh, line.split()) == 1
    assert error.format(file=file) in capsys.readouterr().err
