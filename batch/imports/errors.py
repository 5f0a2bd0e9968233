"""Errors of the imports."""

from __future__ import annotations

from schemas.errors import TunemeshError


class ImportsError(TunemeshError):
    """The imports have stopped: what happened, where, and what to do next."""


class ServiceRefused(ImportsError):
    """Personalize rejected a call with an error that no repetition changes."""

    def __init__(self, operation: str, code: str, message: str) -> None:
        super().__init__(f"Personalize refused {operation}: {message} ({code})")
        self.code = code
