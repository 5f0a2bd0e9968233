"""A data product as a Glue table, and back. Pure.

Athena and Spark read the standard parts of the table; parameters that begin with ``tunemesh.`` hold
what only tunemesh needs. Parameters and location name one version of the product, so that an update
of the table moves its readers from one complete version to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from connectors.catalog.errors import CatalogError
from connectors.catalog.pii import PiiClass, parse_class
from connectors.products.columns import EVENT_DAY, Kind, partition_of
from connectors.products.location import Location
from connectors.products.manifest import Manifest
from schemas.model import Contract

_GLUE_TYPES: Final[dict[Kind, str]] = {
    Kind.STRING: "string",
    Kind.INT: "int",
    Kind.LONG: "bigint",
    Kind.FLOAT: "float",
    Kind.DOUBLE: "double",
    Kind.BOOLEAN: "boolean",
    Kind.STRINGS: "array<string>",
    Kind.TIMESTAMP: "timestamp",
}
_INPUT: Final = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
_OUTPUT: Final = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
_SERDE: Final = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"

_OWN: Final = "tunemesh."


@dataclass(frozen=True, slots=True)
class TableName:
    """A table of a Glue catalog: account, database, table."""

    catalog: str
    database: str
    table: str

    @classmethod
    def of(cls, contract: Contract, account: str) -> TableName:
        """The table of the contract's product; raises CatalogError."""
        database, dot, table = contract.catalog_table.partition(".")
        if not (dot and database and table):
            raise CatalogError(
                f"{contract.folder / 'contract.yaml'}: catalogTable is"
                f" {contract.catalog_table!r}, expected DATABASE.TABLE."
            )
        return cls(account, database, table)

    def __str__(self) -> str:
        return f"{self.database}.{self.table}"

    def document(self) -> dict[str, str]:
        """As Lake Formation and resource links name it."""
        return {"CatalogId": self.catalog, "DatabaseName": self.database, "Name": self.table}


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """A column in the catalog: its Glue type and PII class."""

    name: str
    type: str
    pii: PiiClass


@dataclass(frozen=True, slots=True)
class Product:
    """A registered data product. ``version`` was registered last."""

    name: str
    domain: str
    role: str
    owner: str
    tags: tuple[str, ...]
    table: TableName
    location: Location
    version: str
    schema_version: int
    rows: int
    columns: tuple[CatalogColumn, ...]

    @property
    def classes(self) -> dict[str, PiiClass]:
        """The PII class of each column."""
        return {column.name: column.pii for column in self.columns}


def link_name(product: str) -> str:
    """The name of a product in the central database."""
    return product.replace("-", "_")


def table_input(contract: Contract, manifest: Manifest, table: TableName) -> dict[str, Any]:
    """The TableInput of Glue for a version of a product; raises CatalogError for a PII class that
    does not exist."""
    location = Location.of(contract)
    folder = location.url(location.version(manifest.version))
    parameters = {
        "EXTERNAL": "TRUE",
        "classification": "parquet",
        "parquet.compression": "SNAPPY",
        _OWN + "product": contract.name,
        _OWN + "domain": contract.domain,
        _OWN + "role": str(contract.role),
        _OWN + "owner": contract.owner,
        _OWN + "tags": ",".join(contract.tags),
        _OWN + "location": str(location),
        _OWN + "version": manifest.version,
        _OWN + "manifest": location.url(location.manifest(manifest.version)),
        _OWN + "schema_version": str(manifest.schema_version),
        _OWN + "rows": str(manifest.rows),
        _OWN + "until": "" if manifest.until is None else str(manifest.until),
    }
    where = f"{contract.folder / 'contract.yaml'}: pii"
    table_document: dict[str, Any] = {
        "Name": table.table,
        "Owner": contract.owner,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": parameters,
        "StorageDescriptor": {
            "Columns": [
                {
                    "Name": column.name,
                    "Type": _GLUE_TYPES[column.kind],
                    "Parameters": {"pii": str(parse_class(contract.pii_class(column.name), where))},
                }
                for column in manifest.columns
            ],
            "Location": folder,
            "InputFormat": _INPUT,
            "OutputFormat": _OUTPUT,
            "SerdeInfo": {"SerializationLibrary": _SERDE},
        },
        "PartitionKeys": [],
    }
    if partition_of(contract) is not None:
        table_document["PartitionKeys"] = [{"Name": EVENT_DAY, "Type": "string"}]
        parameters |= _projection(manifest, folder)
    return table_document


def _projection(manifest: Manifest, folder: str) -> dict[str, str]:
    """Athena's partition projection: one update of the table moves all partitions at once."""
    days = sorted(
        file.name.partition("/")[0].removeprefix(f"{EVENT_DAY}=") for file in manifest.files
    )
    today = f"{datetime.fromtimestamp(manifest.created_at / 1000, UTC):%Y-%m-%d}"
    first, last = (days[0], days[-1]) if days else (today, today)
    return {
        "projection.enabled": "true",
        f"projection.{EVENT_DAY}.type": "date",
        f"projection.{EVENT_DAY}.format": "yyyy-MM-dd",
        f"projection.{EVENT_DAY}.range": f"{first},{last}",
        "storage.location.template": f"{folder}{EVENT_DAY}=${{{EVENT_DAY}}}/",
    }


def product_of(table: Mapping[str, Any], name: TableName) -> Product | None:
    """The product in a table as Glue returns it; None for a table that no registration made."""
    parameters = table.get("Parameters") or {}
    if _OWN + "product" not in parameters:
        return None
    try:
        return Product(
            name=parameters[_OWN + "product"],
            domain=parameters[_OWN + "domain"],
            role=parameters[_OWN + "role"],
            owner=parameters[_OWN + "owner"],
            tags=tuple(tag for tag in parameters[_OWN + "tags"].split(",") if tag),
            table=name,
            location=Location.parse(parameters[_OWN + "location"]),
            version=parameters[_OWN + "version"],
            schema_version=int(parameters[_OWN + "schema_version"]),
            rows=int(parameters[_OWN + "rows"]),
            columns=tuple(
                CatalogColumn(
                    column["Name"],
                    column["Type"],
                    parse_class(column["Parameters"]["pii"], f"the table {name}"),
                )
                for column in table["StorageDescriptor"]["Columns"]
            ),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise CatalogError(
            f"the table {name} is not as a registration leaves it ({error!r}). Register the"
            " product again: tunemesh catalog register"
        ) from error
