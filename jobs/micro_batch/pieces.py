"""Micro-batches as text, and what a batch leaves behind as texts. Pure, no Flink.

A batch is the pieces of its records (connectors/kafka/tables.py), one after the other, as LISTAGG
joins them. Arrays of rows would be the obvious way, in and out. In Flink 2.2.1 ARRAY_AGG over a
processing-time window and the converter of a Python function's result (thread mode) both use one
row again for all elements: what went in came out as its last element many times.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.dead_letter import SourceRecord, source_record

SINKS = {"dead_letters": "L", "deletions": "D"}
"""Where a batch's results go, and the letter that says so."""


def unpack(batch: str) -> Iterator[SourceRecord]:
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


def result(sink: str, key: bytes | None, value: bytes) -> str:
    """A record that a batch leaves behind, for one of the ``SINKS``.

    The sink's letter, seven digits with the key's length (seven hyphens: no key), then key and
    value, a character a byte.
    """
    length = "-" * 7 if key is None else f"{len(key):07d}"
    return SINKS[sink] + length + ((key or b"") + value).decode("latin-1")


def _number(batch: str, start: int) -> tuple[int, int]:
    end = batch.index(" ", start)
    return end + 1, int(batch[start:end])
