"""The catalog of data products, on AWS Glue and Lake Formation.

catalog       registers, finds and opens products, grants and revokes access
tables        a product as a Glue table, and back
permissions   Lake Formation's permissions on tables
pii           the PII classes of fields, and which columns a grant includes
"""

from __future__ import annotations

from connectors.catalog.catalog import Catalog, Grant, OpenedProduct
from connectors.catalog.errors import CatalogError, NotGranted
from connectors.catalog.pii import PiiClass
from connectors.catalog.tables import Product

__all__ = [
    "Catalog",
    "CatalogError",
    "Grant",
    "NotGranted",
    "OpenedProduct",
    "PiiClass",
    "Product",
]
