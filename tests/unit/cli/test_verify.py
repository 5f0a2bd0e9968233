"""The reconciliation report of `tunemesh verify` on the terminal."""

from __future__ import annotations

from typing import Any

from cli import terminal
from cli.verify import report_output
from verification.verify import VerifyReport


def report(**fields: Any) -> VerifyReport:
    given: dict[str, Any] = dict.fromkeys(
        ("emission_p50_ms", "emission_p99_ms", "acceptance_p50_ms", "acceptance_p99_ms")
    )
    given |= {"run": "monday", "valid": 3, "enriched": 3, "accepted": 2, "findings": ()}
    return VerifyReport(**given | {"seconds": 1.0} | fields)


def shown(shown_report: VerifyReport) -> list[str]:
    return terminal.plain_text(*report_output(shown_report)).splitlines()


def test_dead_letters_of_the_delivery_are_dead_letters() -> None:
    """Their sum is above them."""
    lines = shown(report(dead_letters={"missing_id": 2}, rejected={"personalize.InvalidEvent": 1}))
    first = next(number for number, line in enumerate(lines) if line.startswith("dead letters"))
    assert [line.split() for line in lines[first : first + 3]] == [
        ["dead", "letters", "3"],
        ["missing_id", "2"],
        ["at", "delivery:", "personalize.InvalidEvent", "1"],
    ]
