"""Terminal output: colours and updated lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from rich.text import Text

from cli import terminal
from tests.support.clock import StoppedTime
from verification.progress import Step

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?3[0-9]")

TABLE = terminal.table(
    ("name", "count"), [("kafka", Text("7", style="red")), ("aws", "1,234")], numbers=("count",)
)


@pytest.fixture
def screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """A terminal, as rich sees it; what was written to it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def read() -> str:
        captured = capsys.readouterr()
        return captured.out + captured.err

    return read


def test_a_table_in_a_file_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """No escape sequences, no lines, no spaces at the end; numbers are aligned to the right."""
    terminal.show("services", TABLE)
    assert capsys.readouterr().out == "services\nname   count\nkafka      7\naws    1,234\n"


def test_a_long_line_in_a_file_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal has a width, a file has none."""
    terminal.show(terminal.table(("a", "b"), [("x" * 300, "y" * 300)]), "z " * 300)
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [303, 602, 599]


def test_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Text of records and messages is not markup."""
    terminal.show("[red]text[/red] :smile:")
    terminal.show_error("[bold]topic")
    captured = capsys.readouterr()
    assert captured.out == "[red]text[/red] :smile:\n"
    assert captured.err == "tunemesh: [bold]topic\n"


def test_colours_are_for_terminals(
    screen: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not for one whose user has set NO_COLOR."""
    terminal.show(TABLE)
    assert COLOUR.search(screen())
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.show(TABLE)
    terminal.show_error("an error")
    assert not COLOUR.search(screen())


def test_a_step_in_a_file_has_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    """At most one each five seconds, and one when it is complete."""
    time = StoppedTime()
    with terminal.ProgressDisplay(time.now) as progress:
        progress(Step("interactions", 0, 1_000))
        for seconds, done in ((3, 300), (2, 500), (6, 500), (0, 900), (1, 1_000), (9, 1_000)):
            time.sleep(seconds)
            progress(Step("interactions", done, 1_000))
    assert capsys.readouterr().err.splitlines() == [
        "interactions  500 of 1,000  100/s",
        "interactions  500 of 1,000  45/s",
        "interactions  1,000 of 1,000  83/s",
    ]


def test_a_wait_in_a_file_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Then what it waits for, when that has changed."""
    time = StoppedTime()
    with terminal.ProgressDisplay(time.now) as progress:
        for note in ("3 behind", "3 behind", "2 behind", "2 behind"):
            progress(Step("waiting for the archive", note=note))
            time.sleep(5)
        progress(Step("waiting for Kafka"))
    assert capsys.readouterr().err.splitlines() == [
        "waiting for the archive  3 behind",
        "waiting for the archive  2 behind",
        "waiting for Kafka",
    ]


def test_a_wait_on_a_terminal_is_one_line_that_disappears(screen: Callable[[], str]) -> None:
    """It names what is waited for; lines that are printed meanwhile stay."""
    with terminal.waiting_for("Flink to run the job") as progress:
        progress(Step("waiting for Flink to run the job", note="3 of 4 tasks"))
        print("a line")
    written = screen()
    assert "waiting for Flink to run the job" in written
    assert "3 of 4 tasks" in written
    assert "a line\n" in ESCAPE.sub("", written)
    # The last thing on the line is that it was erased.
    assert written.rstrip().endswith("\x1b[2K")


def test_a_long_note_is_shortened(
    screen: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is one line; its name and count are complete."""
    monkeypatch.setenv("COLUMNS", "80")
    with terminal.ProgressDisplay() as progress:
        progress(Step("verifying", 1_000, 20_000, "waiting for " + "many records, " * 20))
    lines = [ESCAPE.sub("", line).rstrip() for line in screen().split("\r")]
    shown = next(line for line in lines if "waiting for" in line)
    assert len(shown) <= 80
    assert "verifying" in shown
    assert "1,000 of 20,000" in shown
    assert shown.endswith("…")


def test_a_complete_step_stays_on_the_terminal(screen: Callable[[], str]) -> None:
    """With its count; the next step has a line of its own."""
    with terminal.ProgressDisplay() as progress:
        progress(Step("users and items", 50, 100, "half"))
        progress(Step("users and items", 100, 100))
        progress(Step("interactions", 1, 2))
    lines = [line for line in ESCAPE.sub("", screen()).split("\n") if line.strip()]
    assert "100 of 100" in lines[-2]
    assert "interactions" in lines[-1]
