"""What goes wrong in a benchmark, for a person."""

from __future__ import annotations

from schemas.errors import TunemeshError


class BenchmarkError(TunemeshError):
    """The benchmark cannot go on; the message says what happened and what to do."""


class SystemUnavailable(BenchmarkError):
    """One of the systems cannot run on this machine; the others can."""
