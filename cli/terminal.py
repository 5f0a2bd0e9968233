"""Terminal output through rich: tables, progress, colours. Plain text when not on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column, Table
from rich.text import Text

from verification.progress import Step

PLAIN_WIDTH = 1_000
"""Columns of a file or pipe: nothing is wrapped there."""

BAR_COLUMNS = 36
"""Columns of spinner, bar, time and spaces."""

PLAIN_SECONDS = 5.0
"""Between two lines of the same step in a file or pipe."""


def console(*, stderr: bool = False) -> Console:
    """Return a console; rich leaves out colours in files, and where NO_COLOR is set."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = PLAIN_WIDTH
    return made


def show(*renderables: RenderableType) -> None:
    """Print tables and texts to standard output."""
    made = console()
    if made.is_terminal:
        made.print(*renderables, sep="\n")
    else:
        click.echo(plain_text(*renderables))


def plain_text(*renderables: RenderableType) -> str:
    """Return tables and texts without colours and without spaces at the end of a line."""
    made = Console(color_system=None, highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH)
    with made.capture() as capture:
        made.print(*renderables, sep="\n")
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def show_error(message: str) -> None:
    """Print an error to standard error."""
    made = console(stderr=True)
    made.print("tunemesh: ", style="bold red", end="")
    made.print(message, soft_wrap=True)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[RenderableType]],
    *,
    numbers: Collection[str] = (),
    show_header: bool = True,
) -> Table:
    """A table without lines; the columns in ``numbers`` are aligned to the right."""
    made = Table(
        *(
            Column(name, justify="right" if name in numbers else "left", overflow="fold")
            for name in header
        ),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
        show_header=show_header,
    )
    for row in rows:
        made.add_row(*row)
    return made


class ProgressDisplay:
    """Shows steps on standard error: a line that is updated, or plain lines when not on a terminal.

    A wait disappears from the terminal when it ends; other steps leave their last line. In plain
    text a step has a line when it begins (waits), each 5 s if it has changed, and when it is
    complete. It is a :data:`verification.progress.Progress`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console(stderr=True)
        self._clock = clock
        self._name: str | None = None
        self._began = 0.0
        self._complete = False
        self._printed, self._printed_at = "", 0.0
        self._bar: RichProgress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, step: Step) -> None:
        """Show the step."""
        if step.name != self._name:
            self._start(step)
        if self._complete:
            return
        self._complete = step.total is not None and step.done >= step.total
        amount = self._amount(step)
        if self._bar is None:
            self._print(step, "  ".join(part for part in (step.name, amount, step.note) if part))
            return
        # Only the note is shortened to the terminal's width.
        note = Text(step.note)
        taken = len(step.name) + len(amount) + BAR_COLUMNS
        note.truncate(max(1, self._console.width - taken), overflow="ellipsis")
        self._bar.update(
            self._task, completed=step.done, total=step.total, amount=amount, note=note.plain
        )
        self._bar.start()
        if self._complete:
            self._stop_bar()

    def close(self) -> None:
        """End the line, so that other output starts on its own."""
        self._stop_bar()
        self._name = None

    def _start(self, step: Step) -> None:
        self.close()
        self._name, self._began, self._complete = step.name, self._clock(), False
        self._printed, self._printed_at = "", self._began
        if self._console.is_interactive:
            self._bar = RichProgress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                *([] if step.total is None else [BarColumn(20)]),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self._console,
                transient=step.total is None,
                # Lines that are printed meanwhile appear above; a pipe gets its own.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._task = self._bar.add_task(step.name, total=step.total, amount="", note="")

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, step: Step, text: str) -> None:
        first_of_wait = step.total is None and not self._printed
        due = self._clock() - self._printed_at >= PLAIN_SECONDS and text != self._printed
        if first_of_wait or due or self._complete:
            self._console.print(text)
            self._printed, self._printed_at = text, self._clock()

    def _amount(self, step: Step) -> str:
        if not step.done and not step.total:
            return ""
        seconds = self._clock() - self._began
        rate = f"  {step.done / seconds:,.0f}/s" if seconds > 0.5 and step.done else ""
        return (f"{step.done:,} of {step.total:,}" if step.total else f"{step.done:,}") + rate


@contextmanager
def waiting_for(what: str) -> Iterator[ProgressDisplay]:
    """Show that the block waits for something, such as "Flink to run the job"."""
    with ProgressDisplay() as display:
        display(Step(f"waiting for {what}"))
        yield display
