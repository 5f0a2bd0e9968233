"""The columns of a data product as a pyarrow schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

from connectors.products.columns import Column, Kind

_ARROW: Final[dict[Kind, Any]] = {
    Kind.STRING: pa.string(),
    Kind.INT: pa.int32(),
    Kind.LONG: pa.int64(),
    Kind.FLOAT: pa.float32(),
    Kind.DOUBLE: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.STRINGS: pa.list_(pa.string()),
    Kind.TIMESTAMP: pa.timestamp("ms", tz="UTC"),
}


DELETED_SCHEMA: Final = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("deleted_at", pa.int64())]
)
"""Of the file with deleted users; ``deleted_at`` is epoch milliseconds, null if unknown."""


def arrow_schema(columns: Iterable[Column]) -> Any:
    """The pyarrow schema of columns."""
    return pa.schema([pa.field(c.name, _ARROW[c.kind], nullable=c.nullable) for c in columns])
