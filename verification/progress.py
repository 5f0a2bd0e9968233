"""Progress of long work on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TextIO


@dataclass(frozen=True, slots=True)
class Step:
    """How far a piece of work is; ``total`` None when nobody knows."""

    name: str
    done: int
    total: int | None = None
    note: str = ""


class Progress(Protocol):
    """Called often with how far the work is; must return at once."""

    def __call__(self, step: Step) -> None:
        """Show, or skip, this step."""


def silent(step: Step) -> None:
    """Shows nothing."""


class TerminalProgress:
    """One line, refreshed each second, on a terminal; a line every 5 s into a file or pipe."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._interval = 1.0 if self._terminal else 5.0
        self._name = ""
        self._began = 0.0
        self._shown = 0.0
        self._open_line = False

    def __call__(self, step: Step) -> None:
        """Show the step when it is a new one, has ended, or the interval is over."""
        now = self._clock()
        if step.name != self._name:
            self.close()
            self._name, self._began, self._shown = step.name, now, now - self._interval + 0.2
        finished = step.total is not None and step.done >= step.total
        if now - self._shown < self._interval and not finished:
            return
        self._shown = now
        text = self._text(step, now - self._began)
        if self._terminal:
            self._stream.write(f"\r\x1b[K{text}")
            self._open_line = True
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()
        if finished:
            self.close()
            # The same step may report its end again; it is shown once.
            self._shown = now + 3600

    def close(self) -> None:
        """End an open line, so that what follows starts on its own."""
        if self._open_line:
            self._stream.write("\n")
            self._stream.flush()
            self._open_line = False

    @staticmethod
    def _text(step: Step, seconds: float) -> str:
        rate = f"  {step.done / seconds:,.0f}/s" if seconds > 0.5 and step.done else ""
        if step.total:
            share = min(1.0, step.done / step.total)
            filled = int(share * 20)
            picture = f"[{'#' * filled}{'.' * (20 - filled)}] {share:4.0%}"
            amount = f"{step.done:,} of {step.total:,}"
        else:
            picture, amount = "", f"{step.done:,}"
        note = f"  {step.note}" if step.note else ""
        return f"{step.name:<24} {picture}  {amount}{rate}{note}"
