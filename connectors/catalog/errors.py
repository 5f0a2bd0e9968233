"""What the catalog refuses."""

from __future__ import annotations

from schemas.errors import TunemeshError


class CatalogError(TunemeshError):
    """Something that the catalog has not, or that cannot be registered or granted."""


class NotGranted(CatalogError):
    """A consumer asks for a product or a column that no grant of its own includes."""
