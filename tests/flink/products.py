"""A data product as an export publishes it, for tests: the layout and nothing else of it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.products.arrow import arrow_schema
from connectors.products.columns import columns_of
from connectors.products.manifest import Current, Manifest, ProductFile
from schemas.model import Contract


def parquet(contract: Contract, rows: Sequence[Mapping[str, Any]], compression: str) -> bytes:
    """The content of a file with these rows; what a row lacks is null."""
    # Whatever may be null, so that tests can have bad rows.
    nullable = [replace(column, nullable=True) for column in columns_of(contract)]
    schema = arrow_schema(nullable)
    columns = [
        pa.array([row.get(name) for row in rows], pa.int64()).cast(kind)
        if pa.types.is_timestamp(kind)
        else pa.array([row.get(name) for row in rows], kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    output = io.BytesIO()
    table = pa.Table.from_arrays(columns, schema=schema)
    pq.write_table(table, output, compression=compression)
    return output.getvalue()


def publish(
    s3: Any,
    bucket: str,
    contract: Contract,
    files: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    version: str = "20261123T142500Z-1a2b3c4d",
    compression: str = "zstd",
) -> str:
    """Publish a version with these files, by name; returns the product's location."""
    prefix = f"{contract.name}/product"
    entries: list[ProductFile] = []
    for name, rows in files.items():
        content = parquet(contract, rows, compression)
        s3.put_object(Bucket=bucket, Key=f"{prefix}/versions/{version}/{name}", Body=content)
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append(ProductFile(name, len(rows), len(content), sha256))
    manifest = Manifest(
        product=contract.name,
        schema_version=contract.newest.number,
        version=version,
        created_at=1_790_000_000_000,
        until=None,
        rows=sum(entry.rows for entry in entries),
        columns=columns_of(contract),
        files=tuple(entries),
    )
    for name, document in (
        (f"versions/{version}/manifest.json", manifest.to_json()),
        ("current.json", Current.to_json(version, ())),
    ):
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=document)
    return f"s3://{bucket}/{prefix}"
