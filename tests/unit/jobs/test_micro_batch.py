"""A micro-batch as SQL writes it comes apart into the records that went in."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.micro_batch.pieces import SINKS, result, unpack
from schemas.dead_letter import SourceRecord

RECORDS = st.lists(
    st.builds(
        SourceRecord,
        topic=st.sampled_from(["songs", "interactions-enriched"]),
        partition=st.integers(0, 2**31 - 1),
        offset=st.integers(0, 2**63 - 1),
        timestamp_ms=st.integers(-1, 2**53),
        key=st.none() | st.binary(max_size=20),
        payload=st.none() | st.binary(max_size=60),
    ),
    max_size=6,
)


def packed(records: Sequence[SourceRecord]) -> str:
    """As ``connectors.kafka.tables.PIECE`` and LISTAGG put a batch together."""

    def text(value: bytes | None) -> str:
        return (value or b"").decode("latin-1")

    def length(value: bytes | None) -> int:
        return -1 if value is None else len(value)

    return "".join(
        f"{record.topic}/{record.partition}/{record.offset} {record.timestamp_ms}"
        f" {length(record.key)} {length(record.payload)} {text(record.key)}{text(record.payload)}"
        for record in records
    )


@given(RECORDS)
@example([SourceRecord("interactions-enriched", 3, 0, 0, b"", b"")])
@example([SourceRecord("interactions-enriched", 3, 7, 8, b"1 2 3 ", b" 4 5 6 7 ")] * 2)
def test_what_is_packed_is_unpacked(records: list[SourceRecord]) -> None:
    """Any bytes, digits and blanks among them; a missing key is told from an empty one."""
    assert list(unpack(packed(records))) == records


def test_the_text_form_is_frozen() -> None:
    """The SQL is compiled into plans; this is what it writes."""
    batch = "t/1/12 1780000000123 2 3 ab\x03\x00\xffs/1/13 1780000000124 -1 0 s/1/14 5 0 -1 "
    assert list(unpack(batch)) == [
        SourceRecord("t", 1, 12, 1_780_000_000_123, b"ab", b"\x03\x00\xff"),
        SourceRecord("s", 1, 13, 1_780_000_000_124, None, b""),
        SourceRecord("s", 1, 14, 5, b"", None),
    ]


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
def test_a_text_that_is_no_batch_is_a_value_error(batch: str) -> None:
    """A fault of the job: it stops rather than deliver something else."""
    with pytest.raises(ValueError):  # noqa: PT011 - several messages, some are Python's own
        list(unpack(batch))


@given(RECORDS.filter(bool), st.data())
def test_no_cut_batch_gives_other_records(records: list[SourceRecord], data: st.DataObject) -> None:
    """It gives the first ones as they were, and then the error."""
    whole = packed(records)
    cut = data.draw(st.integers(0, len(whole) - 1))
    got: list[SourceRecord] = []
    with contextlib.suppress(ValueError):
        got.extend(unpack(whole[:cut]))
    assert got == records[: len(got)]
    assert len(got) < len(records)


@given(st.sampled_from(sorted(SINKS)), st.none() | st.binary(max_size=300), st.binary(max_size=300))
def test_what_is_left_over_can_be_cut_apart(sink: str, key: bytes | None, value: bytes) -> None:
    """By fixed places, as the SQL does; no key is told from an empty one."""
    text = result(sink, key, value)
    length = None if text[1:8] == "-" * 7 else int(text[1:8])
    assert text[0] == SINKS[sink]
    assert (None if length is None else text[8 : 8 + length].encode("latin-1")) == key
    assert text[8 + (length or 0) :].encode("latin-1") == value
