"""Export of the interactions, from what Firehose wrote to S3: each event once, by event day.

Firehose delivers at least once, and an event may have been enriched twice. Three passes, each of
which holds a bounded part of the rows in memory:

1. lines -> rows, divided on disk by a hash of the event_id
2. each of these files: one row an event, divided on disk by the day on which it occurred
3. each day: Parquet files of the product
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from batch.exports.archive import ORIGIN, LineReader, archive_bytes, object_readers
from batch.exports.parallel import read_in_parallel
from batch.exports.publication import ExportReport, Limits, check_rejected, finish, open_writer
from batch.exports.spill import DayFiles, HashFiles, spill_folder
from connectors.products.columns import EVENT_DAY, OCCURRED_AT, PUBLISHED_AT, columns_of
from connectors.products.location import Location
from schemas.model import Contracts, Role

EVENT_ID: Final = "event_id"

HASHED_BYTES: Final = 64 * 1024 * 1024
"""Of JSON that one file of the first pass is to have; its rows are in memory together."""

GZIP_RATIO: Final = 8
"""What compressed objects are taken to grow to."""

MAX_FILES: Final = 512


def export_interactions(
    contracts: Contracts,
    archive: Location,
    s3: Any,
    *,
    spill: Path,
    until: int | None = None,
    workers: int = 2,
    limits: Limits | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> ExportReport:
    """Export the archive of enriched interactions to the interactions' product and publish it.

    until     epoch milliseconds: only events with an earlier Kafka timestamp (``published_at``);
              what Firehose has not delivered yet is not there, so wait its buffering time first
    spill     a folder with room for the rows
    progress  is told how many lines were read so far

    Of several records of one event, the one that was published first is kept (then the one whose
    origin is the least), so that a repetition has the same result. Raises TooManyRejected,
    SpillInUse, and what :class:`~connectors.products.ProductWriter` raises; nothing is published
    then.
    """
    contract = contracts.only(Role.INTERACTION)
    columns = columns_of(contract)
    lines = LineReader(contract, contracts.only(Role.ENRICHED), columns)
    limits = limits or Limits()
    readers = object_readers(s3, archive, lines)
    with spill_folder(spill) as folder, open_writer(s3, contract, columns, until) as writer:
        hashed = HashFiles(folder, EVENT_ID, hash_files(archive_bytes(s3, archive)))
        days = DayFiles(folder, OCCURRED_AT)
        read = later = duplicates = 0
        for found in read_in_parallel(readers, workers):
            read += found.batch.num_rows + len(found.rejections)
            batch = published_before(found.batch, until)
            later += found.batch.num_rows - batch.num_rows
            hashed.add(batch)
            for rejection in found.rejections:
                writer.reject(rejection)
            progress(read)
        check_rejected(writer, contract, read, limits)
        for table in hashed.tables():
            once = one_an_event(table)
            duplicates += table.num_rows - once.num_rows
            days.add(once.select([column.name for column in columns]))
        for day, batches in days.days():
            partition = f"{EVENT_DAY}={day}"
            for batch in batches:
                writer.write(batch.cast(writer.schema), partition)
            writer.end_folder(partition)
        return finish(
            writer, contract, read=read, limits=limits, duplicates=duplicates, later=later
        )


def hash_files(stored_bytes: int) -> int:
    """Into how many files the first pass divides so many bytes of objects."""
    return min(MAX_FILES, 1 + stored_bytes * GZIP_RATIO // HASHED_BYTES)


def published_before(batch: Any, until: int | None) -> Any:
    """The rows that were published before a moment; all without one."""
    if until is None:
        return batch
    published = batch.column(PUBLISHED_AT).cast(pa.int64())
    return batch.filter(pc.less(published, until))


def one_an_event(table: Any) -> Any:
    """One row an event_id: the first by publication, then by origin."""
    ascending = [(name, "ascending") for name in (EVENT_ID, PUBLISHED_AT, ORIGIN.name)]
    table = table.sort_by(ascending)
    ids = table.column(EVENT_ID).combine_chunks()
    first = pc.not_equal(ids.slice(1), ids.slice(0, max(0, len(ids) - 1)))
    mask = pa.concat_arrays([pa.array([True] * min(1, len(ids)), pa.bool_()), first])
    return table.filter(mask)
