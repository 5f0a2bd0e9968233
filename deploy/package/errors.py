"""The error of packages."""

from __future__ import annotations

from schemas.errors import TunemeshError


class PackageError(TunemeshError):
    """A package cannot be built or read; the message has the reason and the next step."""
