"""Exports of users and items: every record of a domain's store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import pyarrow as pa

from batch.exports.parallel import read_in_parallel
from batch.exports.publication import ExportReport, Limits, finish, open_writer
from batch.exports.rows import Row, RowMaker
from connectors.products.arrow import DELETED_SCHEMA
from connectors.products.columns import columns_of
from connectors.products.writer import ProductWriter, Rejection
from schemas.invalid import InvalidRecord
from schemas.model import Contract, Role

BATCH_ROWS: Final = 8_192


@dataclass(frozen=True, slots=True)
class Partition:
    """A share of a store's records that one thread reads.

    ``name`` is as in "songs, segment 3 of 8". ``read`` yields each record as a mapping by field
    name, and an InvalidRecord for one that cannot be read.
    """

    name: str
    read: Callable[[], Iterator[Mapping[str, Any] | InvalidRecord]]


class RecordSource(Protocol):
    """A domain's store."""

    def partitions(self) -> Sequence[Partition]:
        """Shares that together have each record once. May query the store."""

    def close(self) -> None:
        """Close connections and snapshots."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A batch of a reader: rows that fit, rejected rows, the number of deleted records and the ids
    of those that have one."""

    batch: Any
    rejections: tuple[Rejection, ...]
    deleted: int
    deletions: tuple[tuple[str, int | None], ...]


def export_records(
    contract: Contract,
    source: RecordSource,
    s3: Any,
    *,
    workers: int = 4,
    limits: Limits | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> ExportReport:
    """Export a store to its contract's data product and publish it.

    ``progress`` is called with the number of records read so far. Raises TooManyRejected when more
    rows than the limit do not fit the contract, and what the source and
    :class:`~connectors.products.ProductWriter` raise; nothing is published then. Closes the source.
    """
    try:
        columns = columns_of(contract)
        maker = RowMaker(contract, columns)
        with open_writer(s3, contract, columns) as writer:
            read = deleted = 0
            readers = [
                partial(_checked, contract, maker, partition) for partition in source.partitions()
            ]
            for checked in read_in_parallel(readers, workers):
                _write(writer, contract, checked)
                deleted += checked.deleted
                read += checked.batch.num_rows + len(checked.rejections) + checked.deleted
                progress(read)
            return finish(writer, contract, read=read, deleted=deleted, limits=limits or Limits())
    finally:
        source.close()


def _write(writer: ProductWriter, contract: Contract, checked: _Checked) -> None:
    writer.write(checked.batch)
    if contract.role is Role.USER:
        columns = zip(*checked.deletions, strict=True) if checked.deletions else ((), ())
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(columns, DELETED_SCHEMA, strict=True)
        ]
        writer.write_deleted(pa.RecordBatch.from_arrays(arrays, schema=DELETED_SCHEMA))
    for rejection in checked.rejections:
        writer.reject(rejection)


def _checked(contract: Contract, maker: RowMaker, partition: Partition) -> Iterator[_Checked]:
    rows: list[Row] = []
    rejections: list[Rejection] = []
    deletions: list[tuple[str, int | None]] = []
    deleted = 0
    for seen, record in enumerate(partition.read(), start=1):
        try:
            if isinstance(record, InvalidRecord):
                raise record
            if maker.is_deleted(record):
                deleted += 1
                if (deletion := maker.deletion(record)) is not None:
                    deletions.append(deletion)
            else:
                rows.append(maker.row(record))
        except InvalidRecord as error:
            key = record.get(contract.key) if isinstance(record, Mapping) else None
            rejections.append(Rejection.of(error, key, f"{partition.name}, record {seen}"))
        if seen % BATCH_ROWS == 0:
            yield _Checked(maker.batch(rows), tuple(rejections), deleted, tuple(deletions))
            rows, rejections, deletions, deleted = [], [], [], 0
    yield _Checked(maker.batch(rows), tuple(rejections), deleted, tuple(deletions))
