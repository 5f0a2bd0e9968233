"""Progress of long work, as the lower layers report it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a piece of work; ``total`` is None for a wait, which ``name`` describes."""

    name: str
    done: int = 0
    total: int | None = None
    note: str = ""


class Progress(Protocol):
    """Called often with the present step; must return at once."""

    def __call__(self, step: Step) -> None:
        """Show, or skip, this step."""


def silent(step: Step) -> None:
    """Show nothing."""
