"""The text of a micro-batch. Its SQL is tested in tests/flink/test_micro_batch.py."""

from __future__ import annotations

import pytest

from jobs.micro_batch.left_over import LeftOver, Sink
from jobs.micro_batch.piece import split
from schemas.dead_letter import SourceRecord

BATCH = "t/1/12 1780000000123 2 3 ab\x03\x00\xffs/1/13 1780000000124 -1 0 s/1/14 5 0 -1 "
RECORDS = [
    SourceRecord("t", 1, 12, 1_780_000_000_123, b"ab", b"\x03\x00\xff"),
    SourceRecord("s", 1, 13, 1_780_000_000_124, None, b""),
    SourceRecord("s", 1, 14, 5, b"", None),
]


def test_the_text_of_a_batch_is_frozen() -> None:
    """The SQL is compiled into plans; this is what it writes."""
    assert list(split(BATCH)) == RECORDS
    assert list(split("")) == []


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (LeftOver(Sink.DEAD_LETTERS, b"k\xff", b"\x03v"), "L0000002k\xff\x03v"),
        (LeftOver(Sink.DELETIONS, b"", b""), "D0000000"),
        (LeftOver(Sink.DEAD_LETTERS, None, b"0"), "L-------0"),
    ],
)
def test_the_text_of_a_left_over_record_is_frozen(record: LeftOver, text: str) -> None:
    """A missing key differs from an empty one."""
    assert record.render() == text


@pytest.mark.parametrize(
    "batch",
    [
        "x",
        "t/1/2 ",
        "t/1/2 3",
        "t/1/2 3 4",
        "t/0/1 2 0 9 abc",
        "t/0/1 2 5 0 ab",
        "t/0/1 2 a 4 b",
        "t/0/1 2 0 1 x rest",
        "t/0 2 -1 1 b",
        "t/0/1/2 2 -1 1 b",
        "t/0/1 2 -1 1 \u20ac",
    ],
)
def test_a_text_that_is_not_a_batch_is_a_value_error(batch: str) -> None:
    """A fault of the job: it stops rather than deliver something else."""
    with pytest.raises(ValueError):  # noqa: PT011 - several messages, some are Python's own
        list(split(batch))


@pytest.mark.parametrize("end", range(len(BATCH)))
def test_a_truncated_batch_never_gives_other_records(end: int) -> None:
    """It gives the first ones as they were, and then the error, unless a record ends there."""
    records: list[SourceRecord] = []
    ends_between_records = end in (0, 30, 56)
    try:
        records.extend(split(BATCH[:end]))
    except ValueError:
        assert not ends_between_records
    else:
        assert ends_between_records
    assert records == RECORDS[: len(records)]
