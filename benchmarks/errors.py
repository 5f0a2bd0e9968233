"""The errors of benchmarks."""

from __future__ import annotations

from schemas.errors import TunemeshError


class BenchmarkError(TunemeshError):
    """The benchmark cannot continue."""


class SystemUnavailable(BenchmarkError):
    """One of the systems cannot run on this machine."""
