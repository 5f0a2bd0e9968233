"""The generated reader and the decoder agree on the benchmark's records."""

from __future__ import annotations

from benchmarks.decoding import compare, generate_records
from schemas.invalid import Reason
from schemas.model import load_contracts

CONTRACTS = load_contracts()


def test_rows_and_dead_letters_are_those_of_the_decoder() -> None:
    """Of valid records and of mutated ones; `python -m benchmarks.decoding` compares 300,000."""
    counts = compare(CONTRACTS, generate_records(CONTRACTS, events=200), mutations=5)
    assert set(counts) >= {"rows", Reason.TRUNCATED_BODY, Reason.WRONG_TYPE, Reason.TRAILING_BYTES}
