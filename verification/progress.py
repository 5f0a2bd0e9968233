"""Progress of long work, as the lower layers report it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a piece of work; ``total`` is None for a wait, which ``name`` describes."""

    name: str
    done: int = 0
    total: int | None = None
    note: str = ""


Progress = Callable[[Step], None]
"""Called often with the present step; must return at once."""


def silent(step: Step) -> None:
    """Show nothing."""
