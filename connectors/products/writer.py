"""Publishes a version of a data product atomically.

The order makes it atomic: files, then the manifest, then the pointer in one conditional PUT, then
the removal of old versions. A process that dies in between leaves objects that no pointer names;
the next publication removes them.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import botocore.exceptions
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.aws.s3 import delete_objects, object_sizes
from connectors.aws.sdk import ServiceUnavailable, error_code, service_errors
from connectors.clock import now_ms
from connectors.products.arrow import DELETED_SCHEMA, arrow_schema
from connectors.products.columns import Column
from connectors.products.location import DELETED, REJECTED, Location
from connectors.products.manifest import (
    Current,
    Former,
    Manifest,
    ProductError,
    ProductFile,
    read_current,
)
from connectors.products.upload import Upload
from connectors.products.versions import (
    KEPT_VERSIONS,
    kept_versions,
    remove_others,
    version_name,
)
from schemas.invalid import InvalidRecord

FILE_BYTES: Final = 96 * 1024 * 1024
"""A file of this size is closed after its row group: files of 64 to 128 MiB."""

ROW_GROUP_ROWS: Final = 100_000

_log = logging.getLogger(__name__)


class PublicationConflict(ProductError):
    """Another export of the same product has published meanwhile."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that does not fit the contract, without its values.

    reason   one of :class:`schemas.invalid.Reason`
    key      the value of the contract's key, if it is usable
    source   where it was read: a table, a segment of it, an object and line
    """

    reason: str
    message: str
    key: str | None
    source: str

    @classmethod
    def of(cls, error: InvalidRecord, key: object, source: str) -> Rejection:
        """The rejection of a record; a key that is no printable text is left out."""
        shown = key[:256] if isinstance(key, str) and key.isprintable() else None
        return cls(str(error.reason), error.message, shown, source)


class ProductWriter:
    """One new version. Not thread safe; a context manager that abandons an unpublished version.

    Raises ServiceUnavailable when S3 rejects a call or does not answer.
    """

    def __init__(
        self,
        s3: Any,
        location: Location,
        *,
        product: str,
        schema_version: int,
        columns: tuple[Column, ...],
        until: int | None = None,
        keep: int = KEPT_VERSIONS,
        file_bytes: int = FILE_BYTES,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        """Open a version; nothing is written yet. ``now_ms``: milliseconds since the epoch."""
        self.location = location
        self.columns = columns
        self.schema = arrow_schema(columns)
        self.rows = 0
        self.rejected: Counter[str] = Counter()
        self._s3 = s3
        self._product = product
        self._schema_version = schema_version
        self._until = until
        self._keep = keep
        self._file_bytes = file_bytes
        self._now_ms = now_ms
        self._before: Current | None = read_current(s3, location)
        self._opened_ms = now_ms()
        self.version = version_name(self._opened_ms, secrets.token_hex(4))
        self._files: list[ProductFile] = []
        self._numbers: Counter[str] = Counter()
        self._open: dict[str, _OpenFile] = {}
        self._rejects: Upload | None = None
        self._deleted: _OpenFile | None = None
        self._deleted_file: ProductFile | None = None
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self._finished:
            return
        try:
            self.abandon()
        except ServiceUnavailable as unavailable:
            # The error that ended the block matters more; the next publication removes the rest.
            if error is None:
                raise
            _log.warning("%s", unavailable)

    def write(self, batch: Any, folder: str = "") -> None:
        """Appends a pyarrow RecordBatch of :attr:`schema`, to the files in a folder of the version
        such as ``event_day=2026-11-23``."""
        if not batch.num_rows:
            return
        with service_errors(f"write the product {self._product} to {self.location}"):
            file = self._open.get(folder)
            if file is None:
                file = self._open[folder] = self._new_file(folder)
            file.write(batch)
            self.rows += batch.num_rows
            if file.upload.size >= self._file_bytes:
                self._close_file(folder)

    def end_folder(self, folder: str) -> None:
        """Close the open file of a folder, to which no more rows are written."""
        if folder in self._open:
            with service_errors(f"write the product {self._product} to {self.location}"):
                self._close_file(folder)

    def reject(self, rejection: Rejection) -> None:
        """List a row that was not written, in :data:`REJECTED`."""
        if self._rejects is None:
            self._rejects = self._upload(REJECTED)
        self.rejected[rejection.reason] += 1
        with service_errors(f"write the product {self._product} to {self.location}"):
            self._rejects.write(json.dumps(asdict(rejection)).encode() + b"\n")

    def write_deleted(self, batch: Any) -> None:
        """Append ids of deleted users, a RecordBatch of :data:`DELETED_SCHEMA`, to their file."""
        if not batch.num_rows:
            return
        with service_errors(f"write the product {self._product} to {self.location}"):
            if self._deleted is None:
                self._deleted = _OpenFile(DELETED, self._upload(DELETED), DELETED_SCHEMA)
            self._deleted.write(batch)

    def publish(self, deleted: int = 0) -> Manifest:
        """Make this version the current one, and remove old versions.

        Raises PublicationConflict when another version became current since this one was opened,
        and ProductError when objects of this version are not there as they were written.
        """
        with service_errors(f"publish the product {self._product} at {self.location}"):
            for folder in list(self._open):
                self._close_file(folder)
            if self._rejects is not None:
                self._rejects.close()
            if self._deleted is not None:
                self._deleted_file = self._deleted.close()
            manifest = self._manifest(deleted)
            self._check_objects(manifest)
            self._put(self.location.manifest(self.version), manifest.to_json())
            kept = self._move_pointer()
        self._finished = True
        try:
            remove_others(self._s3, self.location, kept, before=self.version)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            _log.warning("%s: old versions stay until the next export: %s", self.location, error)
        return manifest

    def abandon(self, *, keep_rejected: bool = False) -> None:
        """Remove what was written; ``keep_rejected`` keeps the list of rejected rows until the next
        publication."""
        self._finished = True
        with service_errors(f"remove the abandoned version at {self.location}"):
            for file in (*self._open.values(), *([self._deleted] if self._deleted else [])):
                file.upload.abort()
            self._open.clear()
            if self._rejects is not None and keep_rejected:
                self._rejects.close()
            elif self._rejects is not None:
                self._rejects.abort()
            prefix = self.location.version(self.version)
            names = object_sizes(self._s3, self.location.bucket, prefix)
            removed = [prefix + n for n in names if not (keep_rejected and n == REJECTED)]
            delete_objects(self._s3, self.location.bucket, removed)

    @property
    def rejected_url(self) -> str:
        """The address of the list of rejected rows."""
        return self.location.url(self.location.version(self.version) + REJECTED)

    def _new_file(self, folder: str) -> _OpenFile:
        number = self._numbers[folder]
        self._numbers[folder] += 1
        name = f"{folder}/part-{number:05}.parquet" if folder else f"part-{number:05}.parquet"
        return _OpenFile(name, self._upload(name), self.schema)

    def _close_file(self, folder: str) -> None:
        self._files.append(self._open.pop(folder).close())

    def _upload(self, name: str) -> Upload:
        key = self.location.version(self.version) + name
        return Upload(self._s3, self.location.bucket, key)

    def _put(self, key: str, content: bytes, **conditions: str) -> None:
        self._s3.put_object(
            Bucket=self.location.bucket,
            Key=key,
            Body=content,
            ContentType="application/json",
            **conditions,
        )

    def _manifest(self, deleted: int) -> Manifest:
        return Manifest(
            product=self._product,
            schema_version=self._schema_version,
            version=self.version,
            created_at=self._opened_ms,
            until=self._until,
            rows=self.rows,
            columns=self.columns,
            files=tuple(sorted(self._files, key=lambda file: file.name)),
            deleted=deleted,
            deleted_file=self._deleted_file,
            rejected=dict(self.rejected),
            rejected_file=None if self._rejects is None else REJECTED,
        )

    def _check_objects(self, manifest: Manifest) -> None:
        """Raise ProductError for a missing file: a later export may have removed it."""
        prefix = self.location.version(self.version)
        sizes = object_sizes(self._s3, self.location.bucket, prefix)
        files = (*manifest.files, *([manifest.deleted_file] if manifest.deleted_file else []))
        wrong = [file.name for file in files if sizes.get(file.name) != file.bytes]
        if wrong:
            raise ProductError(
                f"{wrong[0]} of the version {self.version} at {self.location} is missing or"
                " changed; another export of the same product may have run. Export it again."
            )

    def _move_pointer(self) -> tuple[str, ...]:
        """Put the pointer; returns the versions that are kept."""
        former: tuple[Former, ...] = ()
        condition = {"IfNoneMatch": "*"}
        if self._before is not None:
            now = self._now_ms()
            superseded = (Former(self._before.version, now), *self._before.former)
            former = kept_versions(superseded, now, self._keep)
            condition = {"IfMatch": self._before.etag}
        try:
            self._put(self.location.current, Current.to_json(self.version, former), **condition)
        except botocore.exceptions.ClientError as error:
            # 409: another conditional PUT of the same key was under way.
            if error_code(error) not in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise
            raise PublicationConflict(
                f"the product at {self.location} was published by another export while this one"
                " was running; this one's rows were not published. Export it again if necessary."
            ) from error
        return (self.version, *(version.version for version in former))


class _OpenFile:
    """A Parquet file that grows, a row group at a time."""

    def __init__(self, name: str, upload: Upload, schema: Any) -> None:
        self.upload = upload
        self._name = name
        self._rows = 0
        self._waiting: list[Any] = []
        self._waiting_rows = 0
        self._schema = schema
        # Snappy and format 2.4 with 64-bit timestamps: what flink-parquet reads without more jars.
        self._writer = pq.ParquetWriter(upload, schema, compression="snappy")

    def write(self, batch: Any) -> None:
        """Append rows; they are written when they fill a row group."""
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= ROW_GROUP_ROWS:
            self._write_row_groups()

    def close(self) -> ProductFile:
        """Upload the rest, and return the complete file."""
        if self._waiting:
            self._write_row_groups()
        self._writer.close()
        self.upload.close()
        return ProductFile(self._name, self._rows, self.upload.size, self.upload.sha256)

    def _write_row_groups(self) -> None:
        table = pa.Table.from_batches(self._waiting, schema=self._schema)
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._rows += table.num_rows
        self._waiting.clear()
        self._waiting_rows = 0
