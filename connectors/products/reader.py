"""Reads a version of a data product in Python, file by file, each checked against its checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.aws.s3 import get_object
from connectors.aws.sdk import service_errors
from connectors.products.location import Location
from connectors.products.manifest import Manifest, NotPublished, ProductError, ProductFile


class ProductReader:
    """The rows of one version, which do not change when another version is published.

    ``columns`` are all when None. Holds one file (at most 128 MiB) and one batch in memory.
    """

    def __init__(
        self,
        s3: Any,
        location: Location,
        manifest: Manifest,
        columns: Sequence[str] | None = None,
    ) -> None:
        self.manifest = manifest
        self.columns = tuple(manifest.column_names if columns is None else columns)
        self._s3 = s3
        self._location = location
        for name in self.columns:
            if name not in manifest.column_names:
                raise ProductError(
                    f"the product {manifest.product} has no column {name!r}; there are:"
                    f" {', '.join(manifest.column_names)}"
                )

    def batches(self, rows: int = 65_536) -> Iterator[Any]:
        """RecordBatches of at most so many rows, in the order of the manifest's files.

        Raises ProductError for a file that is not what the manifest says, NotPublished when the
        version was removed meanwhile, ServiceUnavailable.
        """
        for file in self.manifest.files:
            parquet = self._open(file)
            yield from parquet.iter_batches(batch_size=rows, columns=list(self.columns))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict; for tests and small products."""
        for batch in self.batches():
            yield from batch.to_pylist()

    def deleted(self) -> Iterator[tuple[str, int | None]]:
        """Id and time of deletion (epoch ms) of the users that were left out as deleted.

        Raises as :meth:`batches` does.
        """
        if self.manifest.deleted_file is not None:
            for batch in self._open(self.manifest.deleted_file).iter_batches():
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _open(self, file: ProductFile) -> Any:
        key = self._location.version(self.manifest.version) + file.name
        url = self._location.url(key)
        with service_errors(f"read {url}"):
            answer = get_object(self._s3, self._location.bucket, key)
        if answer is None:
            raise NotPublished(f"{url} was removed; open the product again.")
        content, _ = answer
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ProductError(
                f"{url} is not what its manifest says (sha256 differs). Export the product again."
            )
        return pq.ParquetFile(pa.BufferReader(content))
