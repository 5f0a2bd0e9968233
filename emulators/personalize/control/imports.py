"""Runs an import job: CSV objects in S3 to the imported data of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from emulators.personalize.control.bulk import Bulk, Mode
from emulators.personalize.control.csv_rules import ImportRefused, read_batches
from emulators.personalize.control.schemas import KEYWORDS, DatasetSchema
from emulators.personalize.control.source import Source

MIN_INTERACTIONS: Final = 1_000
MAX_DISTINCT: Final = 10
"""Event types and metadata columns together, in an interactions dataset."""

GIB: Final = 1024**3
MAX_BYTES: Final = {"FULL": 100 * GIB, "INCREMENTAL": GIB}


class ServerStopping(Exception):
    """The server is stopping; the job starts again at the next start."""


@dataclass(frozen=True, slots=True)
class ImportJob:
    """The source, the schema of the dataset and the mode of an import."""

    arn: str
    location: str
    schema: DatasetSchema
    mode: Mode


def run_import(
    job: ImportJob, bulk: Bulk, source: Source, is_stopping: Callable[[], bool] = lambda: False
) -> int:
    """Imports all rows or none; returns their number.

    A published job is not run again. Raises ImportRefused with the reason, and ServerStopping when
    `is_stopping` returns true.
    """
    published = bulk.published_rows(job.arn)
    if published is not None:
        return published
    if job.mode == "INCREMENTAL" and not bulk.tables(job.schema.kind):
        raise ImportRefused(
            "the dataset has no imported data yet: the first import must have the mode FULL."
        )
    objects = source.list_objects(job.location)
    size = sum(csv_object.size for csv_object in objects)
    if size > MAX_BYTES[job.mode]:
        raise ImportRefused(
            f"{job.location} has {size} bytes; an import with the mode {job.mode} may have at most "
            f"{MAX_BYTES[job.mode]}."
        )

    def rows() -> Iterator[list[list[str]]]:
        for csv_object in objects:
            lines = source.read_lines(csv_object)
            for batch in read_batches(lines, job.schema, csv_object.uri):
                if is_stopping():
                    raise ServerStopping
                yield batch

    try:
        count = bulk.load(job.arn, job.schema, _check_event_types(rows(), job.schema))
        if job.schema.kind == "INTERACTIONS" and count < MIN_INTERACTIONS:
            raise ImportRefused(
                f"{job.location} has {count} interactions; an import needs {MIN_INTERACTIONS} "
                "or more."
            )
        if count == 0:
            raise ImportRefused(f"{job.location} has no rows.")
    except BaseException:
        bulk.discard(job.arn)
        raise
    bulk.publish(job.arn, job.schema, job.mode, count)
    return count


def _check_event_types(
    batches: Iterator[list[list[str]]], schema: DatasetSchema
) -> Iterator[list[list[str]]]:
    """The same batches; raises ImportRefused for more event types than training can use."""
    if schema.kind != "INTERACTIONS" or schema.field("EVENT_TYPE") is None:
        yield from batches
        return
    column = schema.columns.index("EVENT_TYPE")
    metadata = sum(name not in KEYWORDS for name in schema.columns)
    types: set[str] = set()
    for batch in batches:
        types.update(row[column] for row in batch)
        if len(types - {""}) + metadata > MAX_DISTINCT:
            raise ImportRefused(
                f"{len(types - {''})} event types and {metadata} metadata columns; together "
                f"at most {MAX_DISTINCT} are allowed."
            )
        yield batch
