"""One import job: CSV in S3 -> the bulk data of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from emulators.personalize.control.bulk import Bulk, Mode
from emulators.personalize.control.csv_rules import ImportRefused, batches
from emulators.personalize.control.schemas import KEYWORDS, DatasetSchema
from emulators.personalize.control.source import Source

LEAST_INTERACTIONS: Final = 1_000
MOST_DISTINCT: Final = 10
"""Distinct event types and metadata columns together, in an interactions dataset."""

GIB: Final = 1024**3
MOST_BYTES: Final = {"FULL": 100 * GIB, "INCREMENTAL": GIB}


class Stopped(Exception):
    """The server stops; the job begins anew when it is started again."""


@dataclass(frozen=True, slots=True)
class ImportJob:
    """What is to be imported, from where, into which dataset."""

    arn: str
    location: str
    schema: DatasetSchema
    mode: Mode


def run(
    job: ImportJob, bulk: Bulk, source: Source, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Imports all or nothing; returns the number of rows.

    A job that was published before is not done again. Raises ImportRefused with the reason, and
    Stopped when `stopped` says so.
    """
    published = bulk.published(job.arn)
    if published is not None:
        return published
    if job.mode == "INCREMENTAL" and not bulk.tables(job.schema.kind):
        raise ImportRefused(
            "the dataset has no bulk data yet: the first import must have the mode FULL."
        )
    objects = source.objects(job.location)
    size = sum(one.size for one in objects)
    if size > MOST_BYTES[job.mode]:
        raise ImportRefused(
            f"{job.location} has {size} bytes; an import of the mode {job.mode} takes at most "
            f"{MOST_BYTES[job.mode]}."
        )

    def rows() -> Iterator[list[list[str]]]:
        for one in objects:
            for batch in batches(source.lines(one), job.schema, one.uri):
                if stopped():
                    raise Stopped
                yield batch

    try:
        count = bulk.load(job.arn, job.schema, _counted(rows(), job.schema))
        if job.schema.kind == "INTERACTIONS" and count < LEAST_INTERACTIONS:
            raise ImportRefused(
                f"{job.location} has {count} interactions; an import needs {LEAST_INTERACTIONS} "
                "or more."
            )
        if count == 0:
            raise ImportRefused(f"{job.location} has no rows.")
    except BaseException:
        bulk.abandon(job.arn)
        raise
    bulk.publish(job.arn, job.schema, job.mode, count)
    return count


def _counted(found: Iterator[list[list[str]]], schema: DatasetSchema) -> Iterator[list[list[str]]]:
    """The same batches; raises ImportRefused for more kinds of events than training can use."""
    if schema.kind != "INTERACTIONS" or schema.field("EVENT_TYPE") is None:
        yield from found
        return
    column = schema.columns.index("EVENT_TYPE")
    own = sum(name not in KEYWORDS for name in schema.columns)
    types: set[str] = set()
    for batch in found:
        types.update(row[column] for row in batch)
        if len(types - {""}) + own > MOST_DISTINCT:
            raise ImportRefused(
                f"{len(types - {''})} event types and {own} metadata columns; together "
                f"there can be {MOST_DISTINCT} at most."
            )
        yield batch
