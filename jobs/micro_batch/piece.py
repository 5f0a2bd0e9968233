"""A record as a piece of a micro-batch: the SQL that writes it, and its parser. No Flink."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.kafka.tables import ORIGIN, PUBLISHED_AT
from schemas.dead_letter import SourceRecord, source_record

PIECE = f"""{ORIGIN} || ' ' || CAST({PUBLISHED_AT} AS STRING)
    || ' ' || CAST(COALESCE(CHAR_LENGTH(DECODE(`key`, 'ISO-8859-1')), -1) AS STRING)
    || ' ' || CAST(COALESCE(CHAR_LENGTH(DECODE(`value`, 'ISO-8859-1')), -1) AS STRING)
    || ' ' || COALESCE(DECODE(`key`, 'ISO-8859-1'), '')
    || COALESCE(DECODE(`value`, 'ISO-8859-1'), '')"""
"""A record as text: origin, published_at, length of the key (-1: none), length of the value (-1:
none), a blank after each, then key and value."""

BUCKET = "ASCII(MD5(COALESCE(DECODE(`key`, 'ISO-8859-1'), '')))"
"""One of 16 numbers, the same for all records of a key: micro-batches keep a key's order."""

COLUMNS = {"piece": PIECE, "bucket": BUCKET}
"""Computed columns of a source table."""


def split(batch: str) -> Iterator[SourceRecord]:
    """The records of a batch, in the order in which they came.

    Raises ValueError when the text is not a batch, which is a fault of the job and not of a record.
    """
    position = 0
    while position < len(batch):
        head = batch.index(" ", position) + 1
        origin = batch[position : head - 1]
        head, timestamp_ms = _number(batch, head)
        head, key_length = _number(batch, head)
        head, value_length = _number(batch, head)
        value_at = head + max(key_length, 0)
        position = value_at + max(value_length, 0)
        if position > len(batch):
            raise ValueError(f"a batch ends within the record {origin}")
        yield source_record(
            None if key_length < 0 else batch[head:value_at].encode("latin-1"),
            None if value_length < 0 else batch[value_at:position].encode("latin-1"),
            origin,
            timestamp_ms,
        )


def _number(batch: str, start: int) -> tuple[int, int]:
    end = batch.index(" ", start)
    return end + 1, int(batch[start:end])
