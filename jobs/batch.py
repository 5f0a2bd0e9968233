"""The text form of a micro-batch (jobs/recommendations.sql makes it): pure, no Flink."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.dead_letter import SourceRecord


def unpack(topic: str, batch: str) -> Iterator[SourceRecord]:
    """The records of a batch, in the order in which they came.

    A piece a record: partition, offset, timestamp in milliseconds, length of the key (-1 for none),
    length of the value, a blank after each, then key and value, a character a byte. Raises
    ValueError when the text is not that, which is a fault of the job and not of a record.
    """
    position = 0
    while position < len(batch):
        head, partition = _number(batch, position)
        head, offset = _number(batch, head)
        head, timestamp_ms = _number(batch, head)
        head, key_length = _number(batch, head)
        head, value_length = _number(batch, head)
        value_at = head + max(key_length, 0)
        position = value_at + value_length
        if position > len(batch):
            raise ValueError(f"a batch of {topic} ends within a record")
        key = None if key_length < 0 else batch[head:value_at].encode("latin-1")
        yield SourceRecord(
            topic,
            partition,
            offset,
            timestamp_ms,
            key,
            batch[value_at:position].encode("latin-1"),
        )


def _number(batch: str, start: int) -> tuple[int, int]:
    end = batch.index(" ", start)
    return end + 1, int(batch[start:end])
