"""Lines of what Firehose has written to S3, as rows of the interactions' product.

An object is newline-delimited JSON of interactions-enriched, gzip or not. A chunk of lines goes
through Arrow's JSON reader; only a chunk with a line that this does not accept is parsed line by
line in Python, so that each bad line is rejected with its reason. Both ways accept the same lines.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from batch.exports.rows import RowMaker
from connectors.aws.s3 import list_objects, object_sizes
from connectors.aws.sdk import service_errors
from connectors.products.columns import Column, Kind
from connectors.products.location import Location
from connectors.products.writer import Rejection
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, ContractError
from schemas.rules import (
    MAX_ID_LENGTH,
    MAX_TIMESTAMP_MS,
    MIN_TIMESTAMP_MS,
    identifier_fields,
)

CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Of lines that are parsed together."""

ORIGIN: Final = Column("origin", Kind.STRING, nullable=False)
"""Read beside the product's columns: decides which of several records of an event is kept."""

_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Lines:
    """The rows of a chunk that fit the contract, and the lines that do not."""

    batch: Any
    rejections: tuple[Rejection, ...] = ()


class LineReader:
    """Turns chunks of lines into rows of the product's columns and :data:`ORIGIN`. Thread safe."""

    def __init__(self, contract: Contract, enriched: Contract, columns: tuple[Column, ...]) -> None:
        """Raises ContractError when enriched interactions lack a column of the product."""
        present = set(enriched.newest.field_names)
        for column in (*columns, ORIGIN):
            if column.name not in present:
                raise ContractError(
                    f"{enriched.name}.v{enriched.newest.number}.avsc has no field {column.name!r},"
                    f" which the product {contract.name} has"
                )
        self.maker = RowMaker(contract, (*columns, ORIGIN))
        self._contract = contract
        self._columns = self.maker.columns
        self._ids = identifier_fields(contract)
        # Timestamps are numbers in JSON; Arrow's reader would expect texts.
        self._parsed = pa.schema(
            [
                pa.field(c.name, pa.int64() if c.kind is Kind.TIMESTAMP else field.type)
                for c, field in zip(self._columns, self.maker.schema, strict=True)
            ]
        )

    def read(self, chunk: bytes, source: str, first_line: int = 1) -> Lines:
        """The rows in complete lines; ``source`` is the object that they are from."""
        batch = self.read_whole(chunk)
        return Lines(batch) if batch is not None else self.read_lines(chunk, source, first_line)

    def read_whole(self, chunk: bytes) -> Any | None:
        """All lines as rows, by Arrow; None when one of them has to be parsed in Python."""
        if b"\\u" in chunk or not _is_utf8(chunk):
            return None
        try:
            table = pj.read_json(
                pa.BufferReader(chunk),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(chunk) + 1),
                parse_options=pj.ParseOptions(
                    explicit_schema=self._parsed, unexpected_field_behavior="ignore"
                ),
            )
            if table.num_rows != chunk.count(b"\n") + (not chunk.endswith(b"\n")):
                return None
            table = table.select(self._parsed.names)
            return self._good(table.combine_chunks()) if table.num_rows else None
        except (pa.ArrowInvalid, KeyError):
            return None

    def _good(self, table: Any) -> Any | None:
        arrays = []
        for column in self._columns:
            values = table.column(column.name)
            if not column.nullable and values.null_count:
                return None
            if column.kind is Kind.STRINGS and pc.list_flatten(values).null_count:
                return None
            if column.kind is Kind.TIMESTAMP:
                least, greatest = pc.min_max(values).as_py().values()
                if least is not None and not (
                    least >= MIN_TIMESTAMP_MS and greatest <= MAX_TIMESTAMP_MS
                ):
                    return None
                values = values.cast(self.maker.schema.field(column.name).type)
            elif column.kind in (Kind.FLOAT, Kind.DOUBLE) and not _all(pc.is_finite(values)):
                return None
            arrays.append(values.combine_chunks())
        for name in self._ids:
            values = table.column(name)
            lengths = pc.utf8_length(values)
            if not _all(pc.and_(pc.greater(lengths, 0), pc.less_equal(lengths, MAX_ID_LENGTH))):
                return None
            if not _all(pc.greater_equal(pc.binary_slice(values.cast(pa.binary()), 0, 1), b" ")):
                return None
        (batch,) = pa.Table.from_arrays(arrays, schema=self.maker.schema).to_batches()
        return batch

    def read_lines(self, chunk: bytes, source: str, first_line: int) -> Lines:
        """The same line by line, in Python."""
        rows, rejections = [], []
        for number, line in enumerate(chunk.split(b"\n"), start=first_line):
            if not line.strip():
                continue
            record: Any = None
            try:
                record = _document(line)
                rows.append(self.maker.row(record))
            except InvalidRecord as error:
                key = record.get("event_id") if isinstance(record, dict) else None
                rejections.append(Rejection.of(error, key, f"{source}, line {number}"))
        return Lines(self.maker.batch(rows), tuple(rejections))


def object_readers(
    s3: Any, archive: Location, reader: LineReader
) -> list[Callable[[], Iterator[Lines]]]:
    """A reader for each present object, in the order of their names."""
    with service_errors(f"list {archive}"):
        keys = [entry["Key"] for entry in list_objects(s3, archive.bucket, archive.prefix)]
    return [partial(_read_object, s3, archive, key, reader) for key in keys]


def archive_bytes(s3: Any, archive: Location) -> int:
    """Stored bytes of all objects."""
    with service_errors(f"list {archive}"):
        return sum(object_sizes(s3, archive.bucket, archive.prefix).values())


def _read_object(s3: Any, archive: Location, key: str, reader: LineReader) -> Iterator[Lines]:
    source = archive.url(key)
    first_line = 1
    with service_errors(f"read {source}"):
        body = s3.get_object(Bucket=archive.bucket, Key=key)["Body"]
        for chunk in complete_lines(decompressed(body.iter_chunks(CHUNK_BYTES), source)):
            yield reader.read(chunk, source, first_line)
            first_line += chunk.count(b"\n")


def decompressed(pieces: Iterator[bytes], source: str) -> Iterator[bytes]:
    """The bytes of an object, decompressed if it is gzip, of any number of members.

    Raises ContractError for corrupt gzip.
    """
    decompressor: Any = None
    is_first = True
    for piece in pieces:
        if is_first:
            is_first = False
            decompressor = _gunzip() if piece.startswith(_GZIP) else None
        if decompressor is None:
            yield piece
            continue
        compressed = piece
        while compressed:
            try:
                yield decompressor.decompress(compressed)
            except zlib.error as error:
                raise ContractError(f"{source} is corrupt gzip") from error
            compressed = decompressor.unused_data
            if decompressor.eof:
                decompressor = _gunzip()


def complete_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut at ends of lines into chunks of about :data:`CHUNK_BYTES`."""
    rest: list[bytes] = []
    size = 0
    for piece in pieces:
        rest.append(piece)
        size += len(piece)
        if size < CHUNK_BYTES or b"\n" not in piece:
            continue
        joined = b"".join(rest)
        cut = joined.rfind(b"\n") + 1
        yield joined[:cut]
        rest, size = [joined[cut:]], len(joined) - cut
    if size:
        yield b"".join(rest)


def _gunzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidRecord(Reason.WRONG_TYPE, "the line is not JSON") from None
    if not isinstance(document, dict):
        raise InvalidRecord(Reason.WRONG_TYPE, "the line is not a JSON object")
    return document


def _is_utf8(chunk: bytes) -> bool:
    try:
        chunk.decode()
    except UnicodeDecodeError:
        return False
    return True


def _all(mask: Any) -> bool:
    return bool(pc.all(mask, skip_nulls=True, min_count=0).as_py())
