"""Fuzzed records: both readers agree on each. A million of them: tests/faults."""

from __future__ import annotations

from schemas.invalid import Reason
from tests.support.fuzzed_records import run


def test_what_a_strict_reader_refuses_is_a_dead_letter_and_nothing_else_is() -> None:
    """The readers disagree on none of the inputs, enriched records or dead letters."""
    tally = run(seed=7, enriched=600)
    assert tally.enriched >= 600
    assert tally.dimensions > 20
    assert tally.inputs == tally.enriched + tally.dimensions + tally.dead_letters.total()
    of_the_body = {Reason.TRUNCATED_BODY, Reason.TRAILING_BYTES, Reason.WRONG_TYPE}
    assert of_the_body <= set(tally.dead_letters)
