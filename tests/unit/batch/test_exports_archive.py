"""Promises of reading Firehose's objects: both ways of parsing agree, and no line is lost."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.exports import archive
from batch.exports.archive import LineReader, complete_lines, decompressed
from batch.exports.interactions import count_hash_files, one_per_event
from connectors.products.columns import columns_of
from schemas.model import ContractError, load_contracts

CONTRACTS = load_contracts()
INTERACTIONS, ENRICHED = CONTRACTS["interactions"], CONTRACTS["interactions-enriched"]
READER = LineReader(INTERACTIONS, ENRICHED, columns_of(INTERACTIONS))
EVENT = {
    "event_id": "e1",
    "user_id": None,
    "session_id": "x",
    "item_id": "s1",
    "event_type": "play",
    "played_ms": 5,
    "occurred_at": 1_795_443_900_123,
    "impression": ["s1"],
    "origin": "interactions/0/1",
    "published_at": 1_795_443_900_200,
    "user": {"country": "DE"},
}


def line(**changes: Any) -> bytes:
    document = {key: value for key, value in {**EVENT, **changes}.items() if value is not ...}
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


ODD_VALUES: list[Any] = [
    ..., None, "", "x", "ü" * 256, "x" * 257, "\x01", "\ud800", 0, -1, 5.0, 1.5, 2**63, True,
    [], ["a"], ["a", None], ["a", 1], {}, 253_402_300_800_000,
]  # fmt: skip


@pytest.mark.parametrize("field", [*INTERACTIONS.newest.field_names, "published_at", "origin"])
@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
def test_both_ways_agree_on_every_value(field: str, value: Any) -> None:
    """What Arrow's reader passes, Python's passes with the same values; when in doubt, Arrow's
    leaves it to Python's."""
    chunk = line() + line(**{field: value})
    slow = READER.read_lines(chunk, "s3://a/b", 1)
    fast = READER.read_whole(chunk)
    if fast is None:
        assert slow.rejections or value in ("\x01", "\ud800", ..., 5.0)
    else:
        assert not slow.rejections
        assert fast.equals(slow.batch)


def test_the_fast_way_is_taken_for_plain_lines() -> None:
    """Else the test above would say nothing."""
    batch = READER.read_whole(line() + line(user_id="ü", impression=None, device="ios"))
    assert batch is not None
    assert batch.num_rows == 2
    assert batch.schema == READER.maker.schema


@pytest.mark.parametrize(
    ("chunk", "rows", "reasons"),
    [
        (b"", 0, []),
        (b"\n\n" + line(), 1, []),
        (line().rstrip(b"\n"), 1, []),
        (line().rstrip(b"\n") + line(), 0, ["wrong_type"]),
        (b"[1]\n" + line(), 1, ["wrong_type"]),
        (b"\xff\n" + line(), 1, ["wrong_type"]),
        (line()[:-9], 0, ["wrong_type"]),
        (line(event_id="") + line(item_id=...) + line(), 1, ["missing_id", "missing_id"]),
    ],
)
def test_every_line_is_a_row_or_rejected(chunk: bytes, rows: int, reasons: list[str]) -> None:
    """Two documents on a line, none, no end of line, no JSON."""
    found = READER.read(chunk, "s3://a/b", 11)
    assert found.batch.num_rows == rows
    assert [one.reason for one in found.rejections] == reasons


def test_a_rejection_names_object_and_line() -> None:
    """Lines are counted over the whole object, empty ones included."""
    chunk = line() + b"\n" + line(event_id="e9", item_id=None)
    (rejection,) = READER.read(chunk, "s3://a/b", 11).rejections
    assert (rejection.source, rejection.key) == ("s3://a/b, line 13", "e9")


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_chunks_are_whole_lines_and_nothing_is_lost(pieces: list[bytes], size: int) -> None:
    """Wherever the network cuts them."""
    before = archive.CHUNK_BYTES
    archive.CHUNK_BYTES = size  # type: ignore[misc]
    try:
        chunks = list(complete_lines(iter(pieces)))
    finally:
        archive.CHUNK_BYTES = before  # type: ignore[misc]
    assert b"".join(chunks) == b"".join(pieces)
    assert all(chunk.endswith(b"\n") for chunk in chunks[:-1])


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_gzip_is_recognized_by_its_bytes(size: int) -> None:
    """Several members are one stream; what is not gzip goes through as it is."""
    plain = b"".join(line(event_id=f"e{n}") for n in range(20))

    def pieces(content: bytes) -> Iterator[bytes]:
        return (content[start : start + size] for start in range(0, len(content), size))

    zipped = gzip.compress(plain[:500]) + gzip.compress(plain[500:])
    assert b"".join(decompressed(pieces(plain), "x")) == plain
    if size > 1:
        assert b"".join(decompressed(pieces(zipped), "x")) == plain
        with pytest.raises(ContractError, match="corrupt gzip"):
            list(decompressed(pieces(zipped[:30] + b"garbage" + zipped[37:]), "x"))


def test_of_several_records_of_an_event_the_first_is_kept() -> None:
    """By publication, then by origin; in whatever order they come."""
    chunks = [
        line(event_id=f"e{n % 10}", published_at=1000 + n // 10, origin=f"t/0/{n}", played_ms=n)
        for n in range(30)
    ] + [line(event_id="e3", published_at=1000, origin="t/0/1", played_ms=99)]
    random.Random(4).shuffle(chunks)
    table = pa.Table.from_batches([READER.read(b"".join(chunks), "x").batch])
    kept = one_per_event(table).to_pylist()
    assert [row["event_id"] for row in kept] == [f"e{n}" for n in range(10)]
    assert [row["played_ms"] for row in kept] == [0, 1, 2, 99, 4, 5, 6, 7, 8, 9]
    assert one_per_event(table.slice(0, 0)).num_rows == 0


@pytest.mark.parametrize(("stored", "files"), [(0, 1), (2**26, 9), (2**40, 512)])
def test_the_rows_of_one_file_fit_into_memory(stored: int, files: int) -> None:
    """More bytes, more files, up to what a process may have open."""
    assert count_hash_files(stored) == files


def test_enriched_interactions_have_every_column() -> None:
    """Else the contracts have drifted apart, and the message says where."""
    with pytest.raises(ContractError, match=r"no field 'title', which the product interactions"):
        LineReader(INTERACTIONS, ENRICHED, columns_of(CONTRACTS["songs"])[1:2])
