"""Reads what a system wrote: how many, when, each event once, and a sample field by field."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fastavro
from confluent_kafka import Message

from benchmarks.dataset import event_number
from benchmarks.expected import differing_fields, without_origins
from benchmarks.measure import Appended
from schemas.codec import parse_plain
from schemas.model import Contract
from schemas.wire import HEADER_SIZE

Record = dict[str, Any]

# An event_id has 36 bytes; Avro writes its length before it, zigzag, in one byte.
_ID = slice(HEADER_SIZE + 1, HEADER_SIZE + 37)
_ID_LENGTH = 72
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Checked:
    """What is in an output topic.

    ``duplicates``: records whose event is there already; ``invented``: records with an event_id
    that was never published; ``compared``: how many of the sample were there, ``different`` how
    many of these were not as the plain-Python join has it, ``fields`` in which fields they
    differed.
    """

    appended: Appended
    distinct: int
    duplicates: int
    invented: int
    compared: int
    different: int
    fields: Mapping[str, int]
    examples: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """No event twice and none invented, and the sample as expected."""
        return not (self.duplicates or self.invented or self.different)


def check(
    messages: Iterable[Message],
    contract: Contract,
    events: int,
    sample: Mapping[int, Record],
    *,
    origins: bool,
) -> Checked:
    """Read an output topic; ``sample``: expected records by event number."""
    schema = parse_plain(contract.newest.definition)
    seen = bytearray(events)
    counts: Counter[int] = Counter()
    fields: Counter[str] = Counter()
    duplicates = invented = compared = different = 0
    examples: list[str] = []
    for message in messages:
        value = message.value() or b""
        counts[message.timestamp()[1]] += 1
        number = _number(value)
        if number is None or number >= events:
            invented += 1
            continue
        if seen[number]:
            duplicates += 1
            continue
        seen[number] = 1
        expected = sample.get(number)
        if expected is None:
            continue
        found: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_SIZE:]), schema, None)
        if not origins:
            expected, found = without_origins(expected), without_origins(found)
        compared += 1
        if names := differing_fields(expected, found):
            different += 1
            fields.update(names)
            if len(examples) < _EXAMPLES:
                examples.append(f"expected {expected}, found {found}")
    return Checked(
        appended=Appended.from_counts(counts.items()),
        distinct=sum(seen),
        duplicates=duplicates,
        invented=invented,
        compared=compared,
        different=different,
        fields=dict(fields),
        examples=tuple(examples),
    )


def _number(value: bytes) -> int | None:
    if len(value) < _ID.stop or value[HEADER_SIZE] != _ID_LENGTH:
        return None
    try:
        return event_number(value[_ID])
    except ValueError:
        return None


def sampled(events: int, size: int) -> range:
    """Numbers of the events that are compared field by field, evenly over all of them."""
    return range(0, events, max(1, events // size))
