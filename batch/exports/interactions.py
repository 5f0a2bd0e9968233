"""Export of the interactions, from what Firehose wrote to S3: each event once, by event day.

Firehose delivers at least once, and an event may have been enriched twice. Three passes, each
with a bounded part of the rows in memory:

1. lines -> rows, divided on disk by a hash of the event_id
2. each of these files: one row for each event, divided on disk by the day on which it occurred
3. each day: Parquet files of the product
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from batch.deletions.users import DeletedUsers
from batch.exports.archive import ORIGIN, LineReader, archive_bytes, object_readers
from batch.exports.parallel import read_in_parallel
from batch.exports.publication import ExportReport, Limits, check_rejected, finish, open_writer
from batch.exports.spill import DayFiles, HashFiles, spill_folder
from connectors.products.columns import EVENT_DAY, OCCURRED_AT, PUBLISHED_AT, columns_of
from connectors.products.location import Location
from schemas.model import Contracts, Role

EVENT_ID: Final = "event_id"

HASHED_BYTES: Final = 64 * 1024 * 1024
"""Bytes of JSON in one file of the first pass, whose rows are in memory together."""

GZIP_RATIO: Final = 8
"""The assumed growth of compressed objects."""

MAX_FILES: Final = 512


def export_interactions(
    contracts: Contracts,
    archive: Location,
    s3: Any,
    *,
    spill: Path,
    until: int | None = None,
    deleted: DeletedUsers | None = None,
    workers: int = 2,
    limits: Limits | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> ExportReport:
    """Export the archive of enriched interactions to the interactions' product and publish it.

    until     epoch milliseconds: only events with an earlier Kafka timestamp (``published_at``);
              events that Firehose still buffers are missing, so wait for its buffering time first
    spill     a folder with room for the rows
    deleted   users whose events are left out
    progress  is called with the number of lines read so far

    Of several records of an event, the one that was published first is kept (then the one with the
    least origin), so that a repetition has the same result. Raises TooManyRejected,
    SpillInUse, and what :class:`~connectors.products.ProductWriter` raises; nothing is published
    then.
    """
    contract = contracts.only(Role.INTERACTION)
    columns = columns_of(contract)
    line_reader = LineReader(contract, contracts.only(Role.ENRICHED), columns)
    limits = limits or Limits()
    deleted = deleted or DeletedUsers()
    readers = object_readers(s3, archive, line_reader)
    with spill_folder(spill) as folder, open_writer(s3, contract, columns, until) as writer:
        hashed = HashFiles(folder, EVENT_ID, count_hash_files(archive_bytes(s3, archive)))
        days = DayFiles(folder, OCCURRED_AT)
        read = later = duplicates = erased = 0
        for lines in read_in_parallel(readers, workers):
            read += lines.batch.num_rows + len(lines.rejections)
            batch = published_before(lines.batch, until)
            later += lines.batch.num_rows - batch.num_rows
            hashed.add(batch)
            for rejection in lines.rejections:
                writer.reject(rejection)
            progress(read)
        check_rejected(writer, contract, read, limits)
        for table in hashed.tables():
            once = one_per_event(table)
            duplicates += table.num_rows - once.num_rows
            kept = once.filter(pc.invert(deleted.events(once)))
            erased += once.num_rows - kept.num_rows
            days.add(kept.select([column.name for column in columns]))
        for day, batches in days.days():
            partition = f"{EVENT_DAY}={day}"
            for batch in batches:
                writer.write(batch.cast(writer.schema), partition)
            writer.end_folder(partition)
        return finish(
            writer,
            contract,
            read=read,
            limits=limits,
            duplicates=duplicates,
            later=later,
            erased=erased,
        )


def count_hash_files(stored_bytes: int) -> int:
    """The number of files into which the first pass divides so many bytes of objects."""
    return min(MAX_FILES, 1 + stored_bytes * GZIP_RATIO // HASHED_BYTES)


def published_before(batch: Any, until: int | None) -> Any:
    """The rows that were published before ``until``; all when it is None."""
    if until is None:
        return batch
    published = batch.column(PUBLISHED_AT).cast(pa.int64())
    return batch.filter(pc.less(published, until))


def one_per_event(table: Any) -> Any:
    """One row for each event_id: the first by publication, then by origin."""
    ascending = [(name, "ascending") for name in (EVENT_ID, PUBLISHED_AT, ORIGIN.name)]
    table = table.sort_by(ascending)
    ids = table.column(EVENT_ID).combine_chunks()
    first = pc.not_equal(ids.slice(1), ids.slice(0, max(0, len(ids) - 1)))
    mask = pa.concat_arrays([pa.array([True] * min(1, len(ids)), pa.bool_()), first])
    return table.filter(mask)
