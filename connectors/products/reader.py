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
            content = self._content(file)
            parquet = pq.ParquetFile(pa.BufferReader(content))
            yield from parquet.iter_batches(batch_size=rows, columns=list(self.columns))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict; for tests and small products."""
        for batch in self.batches():
            yield from batch.to_pylist()

    def _content(self, file: ProductFile) -> bytes:
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
        return content
