"""A million enriched records of fuzzed input, read by a strict reader; no server is needed."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed

import pytest

from tests.faults.results import write_result
from tests.support.fuzzed_records import Tally, run

RECORDS = int(os.environ.get("TUNEMESH_FAULTS_FUZZED", "1000000"))
_SHARE = 10_000


@pytest.mark.timeout(3600)
def test_a_strict_reader_reads_every_enriched_record_of_fuzzed_input() -> None:
    """What it would refuse is a dead letter, and nothing else is."""
    tally = Tally()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as workers:
        runs = [
            workers.submit(run, seed, min(_SHARE, RECORDS - start))
            for seed, start in enumerate(range(0, RECORDS, _SHARE))
        ]
        for done in as_completed(runs):
            tally.add(done.result())
    write_result(
        "fuzzed records, read strictly",
        {
            "clean": True,
            "inputs": tally.inputs,
            "enriched_records": tally.enriched,
            "dimension_records": tally.dimensions,
            "dead_letters": tally.dead_letters.total(),
            "reasons": dict(sorted(tally.dead_letters.items())),
        },
    )
    assert tally.enriched >= RECORDS
    assert tally.inputs == tally.enriched + tally.dimensions + tally.dead_letters.total()
