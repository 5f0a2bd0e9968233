"""The text form of a micro-batch: what SQL writes and Python reads. Pure, no Flink.

A record is one piece of text: topic, partition, offset, timestamp in milliseconds, length of the
key (-1 for none), length of the value (-1 for none), a blank after each, then key and value as
Latin-1, one character a byte. A batch is its pieces, one after the other (LISTAGG). ARRAY_AGG would
be the obvious way: in Flink 2.2.1 over a processing-time window it keeps rows that are used again,
and a batch came out as its last record many times.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.dead_letter import SourceRecord

PIECE = """
  `topic` || ' ' || CAST(`partition` AS STRING) || ' ' || CAST(`offset` AS STRING) || ' '
    || CAST(
      EXTRACT(EPOCH FROM `timestamp`) * 1000 + EXTRACT(MILLISECOND FROM `timestamp`) AS STRING)
    || ' ' || CAST(COALESCE(CHAR_LENGTH(DECODE(`key`, 'ISO-8859-1')), -1) AS STRING) || ' '
    || CAST(COALESCE(CHAR_LENGTH(DECODE(`value`, 'ISO-8859-1')), -1) AS STRING) || ' '
    || COALESCE(DECODE(`key`, 'ISO-8859-1'), '') || COALESCE(DECODE(`value`, 'ISO-8859-1'), '')
"""
"""The piece of a record, as SQL over the columns of :func:`connectors.kafka.source_table`."""


def unpack(batch: str) -> Iterator[SourceRecord]:
    """The records of a batch, in the order in which they came.

    Raises ValueError when the text is not a batch, which is a fault of the job and not of a record.
    """
    position = 0
    while position < len(batch):
        head = batch.index(" ", position) + 1
        topic = batch[position : head - 1]
        head, partition = _number(batch, head)
        head, offset = _number(batch, head)
        head, timestamp_ms = _number(batch, head)
        head, key_length = _number(batch, head)
        head, value_length = _number(batch, head)
        value_at = head + max(key_length, 0)
        position = value_at + max(value_length, 0)
        if position > len(batch):
            raise ValueError(f"a batch of {topic} ends within a record")
        yield SourceRecord(
            topic,
            partition,
            offset,
            timestamp_ms,
            None if key_length < 0 else batch[head:value_at].encode("latin-1"),
            None if value_length < 0 else batch[value_at:position].encode("latin-1"),
        )


def _number(batch: str, start: int) -> tuple[int, int]:
    end = batch.index(" ", start)
    return end + 1, int(batch[start:end])
