"""The errors of packages."""

from __future__ import annotations

from schemas.errors import TunemeshError


class PackageError(TunemeshError):
    """A package cannot be built or read; the message has the reason and the next step."""


class ContentError(PackageError):
    """A package is not what it is called, or its files were changed after it was built."""
