"""What can go wrong with the imports, for the person who started them."""

from __future__ import annotations

from schemas.errors import TunemeshError


class ImportsError(TunemeshError):
    """The imports cannot go on: what happened, where, and what to do next."""


class ServiceRefused(ImportsError):
    """Personalize answered a call with an error that trying again does not change."""

    def __init__(self, operation: str, code: str, message: str) -> None:
        super().__init__(f"Personalize refused {operation}: {message} ({code})")
        self.code = code
