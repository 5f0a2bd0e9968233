"""The error of packages."""

from __future__ import annotations

from schemas.errors import TunemeshError


class PackageError(TunemeshError):
    """A package cannot be built or read; says why, and what to do next."""
