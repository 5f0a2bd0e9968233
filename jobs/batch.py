"""The text form of a micro-batch: the pieces of its records (connectors/kafka.py), one after the
other, as LISTAGG joins them. Pure, no Flink.

ARRAY_AGG would be the obvious way: in Flink 2.2.1 over a processing-time window it keeps rows that
are used again, and a batch came out as its last record many times.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.dead_letter import SourceRecord, source_record


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


def _number(batch: str, start: int) -> tuple[int, int]:
    end = batch.index(" ", start)
    return end + 1, int(batch[start:end])
