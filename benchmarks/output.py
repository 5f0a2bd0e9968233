"""Checks the output of a system: number and time of its records, each event once, and a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import Message

from benchmarks.dataset import event_number
from benchmarks.expected import Record, differing_fields, without_origins
from benchmarks.measure import Appended
from schemas.codec import decode_body, parse_plain
from schemas.model import Contract
from schemas.wire import HEADER_SIZE

# An event_id has 36 bytes; Avro writes its length before it, zigzag, in one byte.
_ID = slice(HEADER_SIZE + 1, HEADER_SIZE + 37)
_ID_LENGTH = 72
_MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Checked:
    """The check of an output topic.

    ``duplicates``: records of an event that has another record; ``invented``: records whose
    event_id was never published; ``compared``: records of the sample, of which ``different`` differ
    from the plain-Python join, in the ``fields``.
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
    def is_correct(self) -> bool:
        """Whether no event is duplicated or invented, and the sample is as expected."""
        return not (self.duplicates or self.invented or self.different)


def check(
    messages: Iterable[Message],
    contract: Contract,
    events: int,
    sample: Mapping[int, Record],
    *,
    has_origins: bool,
) -> Checked:
    """Check an output topic; ``sample`` has the expected records by event number."""
    schema = parse_plain(contract.newest.definition)
    seen = bytearray(events)
    counts: Counter[int] = Counter()
    fields: Counter[str] = Counter()
    duplicates = invented = compared = different = 0
    examples: list[str] = []
    for message in messages:
        value = message.value() or b""
        counts[message.timestamp()[1]] += 1
        number = _event_number(value)
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
        actual = decode_body(schema, value[HEADER_SIZE:])
        if not has_origins:
            expected, actual = without_origins(expected), without_origins(actual)
        compared += 1
        if names := differing_fields(expected, actual):
            different += 1
            fields.update(names)
            if len(examples) < _MAX_EXAMPLES:
                examples.append(f"expected {expected}, found {actual}")
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


def _event_number(value: bytes) -> int | None:
    if len(value) < _ID.stop or value[HEADER_SIZE] != _ID_LENGTH:
        return None
    try:
        return event_number(value[_ID])
    except ValueError:
        return None


def sample_numbers(events: int, size: int) -> range:
    """Return the numbers of the compared events, evenly distributed over all events."""
    return range(0, events, max(1, events // size))
