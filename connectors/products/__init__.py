"""Data products on S3: typed Parquet, published as a whole, with a manifest.

    versions/<version>/part-NNNNN.parquet     the rows; interactions: below event_day=YYYY-MM-DD/
    versions/<version>/manifest.json          files with rows, bytes and sha256; columns; counts
    versions/<version>/rejected.ndjson        rows that did not fit the contract, if there were any
    current.json                              the version that readers read

location   where a product is and how its objects are called
columns    the fields of a contract as columns
manifest   what a version consists of, which one is the current one
writer     opens a version, writes it, publishes or abandons it
reader     reads a version
"""

from __future__ import annotations

from connectors.products.columns import (
    EVENT_DAY,
    PUBLISHED_AT,
    Column,
    Kind,
    arrow_schema,
    columns_of,
    partition_of,
)
from connectors.products.location import Location
from connectors.products.manifest import (
    Manifest,
    NotPublished,
    ProductError,
    ProductFile,
    read_current,
    read_manifest,
)
from connectors.products.reader import ProductReader
from connectors.products.writer import ProductWriter, PublicationConflict, Rejection

__all__ = [
    "EVENT_DAY",
    "PUBLISHED_AT",
    "Column",
    "Kind",
    "Location",
    "Manifest",
    "NotPublished",
    "ProductError",
    "ProductFile",
    "ProductReader",
    "ProductWriter",
    "PublicationConflict",
    "Rejection",
    "arrow_schema",
    "columns_of",
    "partition_of",
    "read_current",
    "read_manifest",
]
