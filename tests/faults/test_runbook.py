"""Every command of the runbook is run, in its order, against an application under load."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from confluent_kafka import Producer

from cli.demos import variants
from deploy.dead_letters import read_dead_letters
from deploy.local.settings import PROJECT
from schemas.model import load_contracts
from tests.faults.deployed import Deployed
from tests.support.waiting import wait_until
from verification.flow import Flow

pytestmark = pytest.mark.timeout(2_400)

RUNBOOK = PROJECT / "docs" / "operations" / "runbook.md"
COMMAND = re.compile(
    r"^tunemesh (?P<words>[^#]*?)(?: +# exit code (?P<code>\d+).*)?$", re.MULTILINE
)
RATE = 50.0


def commands() -> list[tuple[str, int]]:
    """Each command without `tunemesh`, and the exit code that it must have."""
    return [
        (found["words"], int(found["code"] or 0)) for found in COMMAND.finditer(RUNBOOK.read_text())
    ]


def test_every_command_does_what_the_runbook_says(deployed: Deployed) -> None:
    """By its exit code; in the end nothing is lost, and the application runs."""
    stage = deployed.stage
    stage.stale_tolerance_ms = 5_000
    producer = Producer({"bootstrap.servers": stage.settings.kafka.address})
    producer.produce("interactions", b"junk")
    assert producer.flush(20) == 0
    wait_until(lambda: bool(read_dead_letters(stage.endpoints)), "junk is a dead letter", 240)
    (letter,) = read_dead_letters(stage.endpoints)
    flow = Flow(stage.endpoints, RATE, load_contracts(), seed=51)
    given = {
        "REPLANNED_RELEASE": str(variants.replanned(deployed.release, "dddd")),
        "BAD_RELEASE": str(variants.restarting(deployed.release, "bbbb")),
        "RELEASE": str(variants.changed(deployed.release, "2222")),
        "TOPIC:PARTITION:OFFSET": letter.id,
        "REASON": letter.error_code,
    }
    left = commands()
    assert len(left) > 30
    for words, code in left:
        if words.startswith("verify"):
            flow.end()
        found = tunemesh(deployed, words, given)
        assert found == code, f"`tunemesh {words}` ended with {found}, the runbook says {code}"
    assert deployed.status()["status"] == "RUNNING"


def tunemesh(deployed: Deployed, words: str, given: Mapping[str, str]) -> int:
    """Run a command; returns its exit code."""
    arguments = [given.get(one, one) for one in words.split()]
    unknown = [one for one in arguments if re.fullmatch(r"[A-Z_:]{3,}", one)]
    assert not unknown, f"the runbook names {unknown}, which this test cannot replace"
    return deployed.command(*arguments).code


def test_the_runbook_has_no_command_in_a_sentence_that_is_not_run() -> None:
    """What stands in backquotes is a command of a block, or an option of one."""
    text = RUNBOOK.read_text()
    run = [words for words, _ in commands()]
    for found in re.findall(r"`tunemesh ([^`]+)`", text):
        words = " ".join(found.split())
        assert any(command.startswith(words) for command in run), words
    assert text.count("**Action:**") == text.count("**Symptom:**") >= 12
