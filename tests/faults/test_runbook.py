"""Runs every command of the runbook, in its order, on an application under load."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from confluent_kafka import Producer

from cli.demos import variants
from deploy.dead_letters import read_dead_letters
from deploy.local.settings import PROJECT
from schemas.model import load_contracts
from tests.faults.deployed import DeployedApplication
from tests.support.waiting import wait_until
from verification.flow import Flow

pytestmark = pytest.mark.timeout(2_400)

RUNBOOK = PROJECT / "docs" / "operations" / "runbook.md"
COMMAND = re.compile(
    r"^tunemesh (?P<words>[^#]*?)(?: +# exit code (?P<code>\d+).*)?$", re.MULTILINE
)
RATE = 50.0


def commands() -> list[tuple[str, int]]:
    """Return each command without `tunemesh`, and its expected exit code."""
    return [
        (match["words"], int(match["code"] or 0)) for match in COMMAND.finditer(RUNBOOK.read_text())
    ]


def test_every_command_has_the_exit_code_of_the_runbook(deployed: DeployedApplication) -> None:
    """At the end no event is lost, and the application runs."""
    stage = deployed.stage
    stage.stale_tolerance_ms = 5_000
    producer = Producer({"bootstrap.servers": stage.settings.kafka.address})
    producer.produce("interactions", b"malformed")
    assert producer.flush(20) == 0
    wait_until(
        lambda: bool(read_dead_letters(stage.endpoints)),
        "the malformed record is a dead letter",
        240,
    )
    (dead_letter,) = read_dead_letters(stage.endpoints)
    flow = Flow(stage.endpoints, RATE, load_contracts(), seed=51)
    values = {
        "REPLANNED_RELEASE": str(variants.replanned(deployed.release, "dddd")),
        "BAD_RELEASE": str(variants.restarting(deployed.release, "bbbb")),
        "RELEASE": str(variants.changed(deployed.release, "2222")),
        "TOPIC:PARTITION:OFFSET": dead_letter.id,
        "REASON": dead_letter.error_code,
    }
    listed = commands()
    assert len(listed) > 30
    for words, code in listed:
        if words.startswith("verify"):
            flow.end()
        actual = run_command(deployed, words, values)
        assert actual == code, f"`tunemesh {words}` ended with {actual}, the runbook has {code}"
    assert deployed.status()["status"] == "RUNNING"


def run_command(deployed: DeployedApplication, words: str, values: Mapping[str, str]) -> int:
    """Run a command with values for its placeholders; returns its exit code."""
    arguments = [values.get(word, word) for word in words.split()]
    unknown = [argument for argument in arguments if re.fullmatch(r"[A-Z_:]{3,}", argument)]
    assert not unknown, f"no values for {unknown}"
    return deployed.run(*arguments).code


def test_every_command_in_a_sentence_of_the_runbook_is_run() -> None:
    """A command in backquotes is one of a block, or its beginning."""
    text = RUNBOOK.read_text()
    listed = [words for words, _ in commands()]
    for match in re.findall(r"`tunemesh ([^`]+)`", text):
        words = " ".join(match.split())
        assert any(command.startswith(words) for command in listed), words
    assert text.count("**Action:**") == text.count("**Symptom:**") >= 12
