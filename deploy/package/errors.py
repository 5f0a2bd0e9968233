"""What can be wrong with a package."""

from __future__ import annotations

from schemas.errors import TunemeshError


class PackageError(TunemeshError):
    """A package that cannot be built or read: what is wrong with it, and what to do."""
