"""Every command with no service started: one sentence, and nothing of a library's log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.settings import PROJECT
from tests.support.commands import LEAVES
from tests.support.ports import NAMES
from tests.support.releases import description

SECONDS = 120
"""For a machine with much else to do; a command itself waits for at most five seconds."""

KAFKA, AWS, SERVICES = ("the service kafka", "the service aws", "the service of the back ends")
PERSONALIZE = "the service personalize"
NO_APPLICATION = "no application"
PORT_IN_USE = "is in use"

# What each command needs first: in the one sentence; "" for a command that needs no service.
COMMANDS: dict[str, str] = {
    "demo": PORT_IN_USE,
    "bootstrap-demo": PORT_IN_USE,
    "upgrade-demo": PORT_IN_USE,
    "up kafka": PORT_IN_USE,
    "submit": KAFKA,
    "down": "",
    "status": "",
    "logs kafka": "has no log",
    "jars fetch kafka": "",
    "jars list": "",
    "jars path kafka": "",
    "deploy submit {release}": KAFKA,
    "deploy upgrade": NO_APPLICATION,
    "deploy rollback": "has not been upgraded",
    "deploy status": NO_APPLICATION,
    "deploy snapshots": NO_APPLICATION,
    "schemas check": "",
    "schemas register": AWS,
    "schemas diff": AWS,
    "export songs": AWS,
    "catalog register songs": AWS,
    "catalog find": AWS,
    "catalog describe songs": AWS,
    "catalog grant songs recommender": AWS,
    "catalog revoke songs recommender": AWS,
    "catalog list": AWS,
    "replay --generate 10": KAFKA,
    "fill --generate 10": SERVICES,
    "verify": KAFKA,
    "bootstrap": AWS,
    "deletions list": AWS,
    "deletions run": PERSONALIZE,
    "deletions verify": PERSONALIZE,
    "dlq list": KAFKA,
    "dlq show songs:0:0": KAFKA,
    "dlq replay songs:0:0": KAFKA,
}
ELSEWHERE = {"package"}
"""Needs no service, and takes long: tests/flink/test_package.py runs it."""


def test_every_command_is_in_the_table() -> None:
    """A new one has to be added."""
    for path in (leaf.removeprefix("tunemesh ") for leaf in LEAVES):
        assert path in ELSEWHERE or any(line.startswith(path) for line in COMMANDS), path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A home without anything in it, and ports that are taken, and on which nobody listens."""
    sockets = {name: socket.socket() for name in NAMES}
    for each in sockets.values():
        each.bind(("127.0.0.1", 0))
    yield {
        **os.environ,
        "TUNEMESH_HOME": str(tmp_path_factory.mktemp("home")),
        **{f"TUNEMESH_{name}_PORT": str(s.getsockname()[1]) for name, s in sockets.items()},
    }
    for each in sockets.values():
        each.close()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package without code."""
    path = tmp_path_factory.mktemp("release") / "release.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("release.json", description("0.1.0").json())
    return path


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_without_services_ends_with_one_sentence(
    line: str, environment: dict[str, str], release: Path
) -> None:
    """Which names the service, where it was looked for, and what to do."""
    arguments = line.format(release=release).split()
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    expected = COMMANDS[line]
    if not expected:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode in (1, 2), done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("tunemesh: ")
    assert expected in sentence
    if expected.startswith("the service"):
        assert "does not answer at 127.0.0.1:" in sentence
        service = "services" if expected == SERVICES else expected.rpartition(" ")[2]
        assert f"tunemesh up {service}" in sentence
