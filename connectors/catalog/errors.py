"""Errors of the catalog."""

from __future__ import annotations

from schemas.errors import TunemeshError


class CatalogError(TunemeshError):
    """The catalog lacks something, or something cannot be registered or granted."""


class NotGranted(CatalogError):
    """A consumer requests a product or a column that none of its grants includes."""
