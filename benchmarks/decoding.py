"""Compares the decode step with and without the generated reader, on the benchmark's dataset.

Each record, and copies of it with other or missing bytes, is decoded by both; rows and dead letters
must be equal. Then the CPU time is measured, alternating: of the decoders alone, and of a task of
Flink in thread mode that does nothing else. The report is bench-decoding.json.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from benchmarks.backlog import exclude_from_gc
from benchmarks.command import describe_machine, run
from benchmarks.dataset import Published, Shape, dimensions, interactions
from benchmarks.errors import BenchmarkError
from benchmarks.publish import generate_version_ids
from connectors.files import write_report
from deploy.local.settings import LocalSettings
from jobs.decode import Decoded, DecodeRecord, DimensionDecoder, InteractionDecoder
from schemas.codec import Decoder, Encoder, RegisteredSchema, SchemaLookup
from schemas.dead_letter import DeadLetters, Step
from schemas.flat_reader import FieldReader
from schemas.model import Contracts, Role, load_contracts
from schemas.wire import HEADER_SIZE

BASE_MS = 1_780_000_000_000
ROUNDS = 7
MAX_DIMENSIONS = 20_000
RECORDS_PER_MS = 20
"""Of one source: records next to each other have the same timestamp."""


DECODER, GENERATED, NONE = "decoder", "generated", "none"
"""How a record is decoded; ``none``: not at all, for what a call costs."""

Arguments = tuple[bytes | None, bytes | None, str, int]
"""Of a call: key, value, origin, timestamp."""


class Registry(SchemaLookup):
    """The newest versions of all contracts."""

    def __init__(self, contracts: Contracts) -> None:
        self.ids = generate_version_ids(contracts)
        self._schemas = {
            self.ids[c.name].bytes: RegisteredSchema(c.subject, c.newest.definition)
            for c in contracts
        }

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        """Return the schema version."""
        return self._schemas[version_id]


class UnusedReader(FieldReader):
    """A reader that leaves each value to the decoder."""

    def add_decoded(self, value: bytes | None) -> None:
        """Do not read values with its header."""


def create_decoder(contracts: Contracts, role: Role, way: str = GENERATED) -> DecodeRecord:
    """Create the decoder of the records of a role."""
    registry = Registry(contracts)
    letters = contracts.only(Role.DEAD_LETTER)
    encoder = Encoder(letters, registry.ids[letters.name])
    dead_letters = DeadLetters(encoder, Step.DECODE, lambda: BASE_MS)
    reader = FieldReader if way == GENERATED else UnusedReader
    with patch("jobs.decode.FieldReader", reader), patch("schemas.flat_reader.FieldReader", reader):
        if role is not Role.INTERACTION:
            return DimensionDecoder(contracts, role, registry, dead_letters)
        enriched = registry.ids[contracts.only(Role.ENRICHED).name]
        return InteractionDecoder(contracts, registry, dead_letters, enriched)


def generate_records(contracts: Contracts, events: int) -> dict[Role, list[Arguments]]:
    """Return the dataset's records by the role of their topic."""
    ids = generate_version_ids(contracts)
    size = min(events, MAX_DIMENSIONS)
    shape = Shape.of(events, size, size, BASE_MS)
    records: dict[Role, list[Arguments]] = {}

    def add(record: Published, offset: int) -> None:
        contract = contracts[record.topic]
        value = Encoder(contract, ids[record.topic]).encode(record.record)
        origin = f"{record.topic}/{offset % 2}/{offset}"
        published_ms = BASE_MS + 3_600_000 + offset // RECORDS_PER_MS
        arguments = record.key.encode(), value, origin, published_ms
        records.setdefault(contract.role, []).append(arguments)

    for offset, record in enumerate((*dimensions(shape), *interactions(shape))):
        add(record, offset)
    return records


def mutate(value: bytes, random: Random) -> bytes:
    """Return a value with a body that is cut, or has up to three other, more or fewer bytes."""
    changed = bytearray(value)
    for _ in range(random.randint(1, 3)):
        at = random.randint(min(HEADER_SIZE, len(changed)), len(changed))
        match random.randrange(4):
            case 0:
                del changed[at:]
            case 1:
                changed[at : at + 1] = random.randbytes(1)
            case 2:
                changed[at:at] = random.choice((b"\x00", b"\x01", b"\x02", b"\x80", b"\xff"))
            case _:
                del changed[at : at + 1]
    return bytes(changed)


def compare(
    contracts: Contracts, records: Mapping[Role, Sequence[Arguments]], mutations: int
) -> dict[str, int]:
    """Return how many rows and dead letters, by reason, were equal.

    Each record is decoded as it is, and ``mutations`` times mutated. Raises BenchmarkError for the
    first result that differs.
    """
    random, counts = Random(1), Counter[str]()
    letters = contracts.only(Role.DEAD_LETTER)
    read_letter = Decoder(letters, Registry(contracts)).decode
    for role, calls in records.items():
        expected, generated = (create_decoder(contracts, role, way) for way in (DECODER, GENERATED))
        for key, value, origin, timestamp_ms in calls:
            assert value is not None
            for number in range(mutations + 1):
                body = mutate(value, random) if number else value
                # A tenth is published before its own time, by up to two days.
                moved = timestamp_ms - random.choice((0,) * 9 + (random.randrange(2 * 10**8),))
                row = generated(key, body, origin, moved)
                other = expected(key, body, origin, moved)
                if _comparable(row, read_letter) != _comparable(other, read_letter):
                    raise BenchmarkError(
                        f"{origin}, value {body.hex()}: {row} is not the decoder's {other}"
                    )
                reason = "rows" if row[0] else _letter(row, read_letter)["error_code"]
                counts[reason] += 1
    return dict(counts)


def _letter(row: Decoded, read_letter: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    return read_letter(row[3].encode("latin-1"))


def _comparable(row: Decoded, read_letter: Callable[[bytes], dict[str, Any]]) -> object:
    return row if row[0] else (row[:3], _letter(row, read_letter))


def measure_alone(
    contracts: Contracts, records: Mapping[Role, Sequence[Arguments]]
) -> dict[str, dict[str, float]]:
    """Return the CPU microseconds of a record by role and way: the least of some rounds."""
    return {
        str(role): _least(
            {
                way: _timed(create_decoder(contracts, role, way), calls)
                for way in (DECODER, GENERATED)
            }
        )
        for role, calls in records.items()
    }


def _timed(decode: DecodeRecord, calls: Sequence[Arguments]) -> Callable[[], float]:
    def measure() -> float:
        started = time.process_time()
        for key, value, origin, timestamp_ms in calls:
            decode(key, value, origin, timestamp_ms)
        return (time.process_time() - started) / len(calls)

    return measure


def _least(measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    times: dict[str, list[float]] = {way: [] for way in measures}
    with exclude_from_gc():
        for _ in range(ROUNDS):
            for way, measure in measures.items():
                times[way].append(measure())
    return {way: round(min(seconds) * 1e6, 2) for way, seconds in times.items()}


def measure_in_flink(calls: Sequence[Arguments], rounds: int) -> dict[str, float]:
    """Return the CPU microseconds of a task's thread for an interaction, by way.

    The task takes events from a file's reader, another thread, and calls the function.
    """
    # Late: the other measurements need no Java.
    from benchmarks.decoding_function import run_job

    times: dict[str, list[float]] = {NONE: [], DECODER: [], GENERATED: []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "interactions.csv"
        with file.open("w", encoding="ascii") as out:
            for key, value, origin, timestamp_ms in calls:
                topic, partition, offset = origin.split("/")
                texts = (base64.b64encode(part or b"").decode() for part in (key, value))
                out.write(",".join((*texts, topic, partition, offset, str(timestamp_ms))) + "\n")
        for _ in range(rounds):
            for way in times:
                times[way].append(run_job(file, len(calls), way))
    return {way: round(min(seconds) * 1e6, 2) for way, seconds in times.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(prog="benchmarks.decoding", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="interactions to decode")
    parser.add_argument("--mutations", type=int, default=4, help="mutated copies of each record")
    parser.add_argument("--flink", type=int, default=0, help="runs of each job inside of Flink")
    options = parser.parse_args(arguments)
    contracts = load_contracts()
    records = generate_records(contracts, options.events)
    report: dict[str, Any] = {"machine": describe_machine()}
    report["equal"] = compare(contracts, records, options.mutations)
    print(f"{sum(report['equal'].values()):,} results are equal: {report['equal']}")
    report["us_alone"] = measure_alone(contracts, records)
    for role, times in report["us_alone"].items():
        _print(role, times)
    if options.flink:
        report["us_in_flink"] = measure_in_flink(records[Role.INTERACTION], options.flink)
        _print("interaction, in Flink", report["us_in_flink"])
    write_report(LocalSettings.from_environment(os.environ).reports / "bench-decoding.json", report)
    return 0


def _print(what: str, times: Mapping[str, float]) -> None:
    ratio = times[DECODER] / times[GENERATED]
    print(f"{what}, us per record: {json.dumps(dict(times))}, ratio {ratio:.2f}")


if __name__ == "__main__":
    run("benchmarks.decoding", main)
