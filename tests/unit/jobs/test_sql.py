"""The SQL texts: steps and statements, in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import sql
from jobs.decode import ANONYMOUS, STATE_PREFIX
from jobs.micro_batch.left_over import Sink
from jobs.sql import read_steps


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of jobs."""
    monkeypatch.setattr(sql, "__file__", str(tmp_path / "sql.py"))
    return tmp_path


def test_steps_and_statements_keep_their_order(folder: Path) -> None:
    """Comments are removed, the text of a statement is kept."""
    (folder / "x.sql").write_text(
        "-- about\n\n-- step: decode\n-- why\nCREATE a\n  AS b;\n\nCREATE c;\n-- step: out\n"
        "INSERT ';' d\n-- between\n  -- indented stays\nFROM e;\n"
    )
    assert read_steps("x.sql") == {
        "decode": ("CREATE a\n  AS b", "CREATE c"),
        "out": ("INSERT ';' d\n  -- indented stays\nFROM e",),
    }
    assert list(read_steps("x.sql")) == ["decode", "out"]


def test_an_included_file_stands_in_its_place(folder: Path) -> None:
    """Also within a statement."""
    (folder / "b.sql").write_text("-- about\n  b,\n  c\n")
    (folder / "x.sql").write_text("-- step: one\nSELECT\n-- include: b.sql\nFROM a;\n")
    assert read_steps("x.sql") == {"one": ("SELECT\n  b,\n  c\nFROM a",)}


def test_a_statement_before_the_first_step_is_an_error(folder: Path) -> None:
    """It would be left out."""
    (folder / "x.sql").write_text("CREATE a;\n-- step: one\nCREATE b;\n")
    with pytest.raises(ValueError, match=r"x\.sql: a statement stands before the first step"):
        read_steps("x.sql")


@pytest.mark.parametrize("text", ["CREATE a\n", "CREATE b;\nCREATE a\n"])
@pytest.mark.parametrize("after", ["", "-- step: two\nCREATE c;\n"])
def test_a_statement_without_an_end_is_an_error(folder: Path, text: str, after: str) -> None:
    """Wherever its step stands; it would be left out, or run into the next one."""
    (folder / "x.sql").write_text("-- step: one\n" + text + after)
    with pytest.raises(ValueError, match=r"the step one has no ';'"):
        read_steps("x.sql")


def test_the_pipelines_have_the_steps_that_a_reader_expects() -> None:
    """Topics in, decode, join, out."""
    enrichment, recommendations = read_steps("enrichment.sql"), read_steps("recommendations.sql")
    assert {name: len(statements) for name, statements in enrichment.items()} == {
        "decode": 3,
        "versions": 2,
        "join": 2,
        "out": 2,
    }
    assert {name: len(statements) for name, statements in recommendations.items()} == {
        "events": 1,
        "users and items": 4,
        "results": 1,
        "out": 2,
    }
    analytics = read_steps("analytics.sql")
    assert {name: len(statements) for name, statements in analytics.items()} == {
        "events": 2,
        "trends": 3,
        "out": 2,
    }
    for steps in (enrichment, recommendations, analytics):
        assert all(statement.startswith("INSERT INTO") for statement in steps["out"])


def test_the_sql_has_the_constants_of_the_functions() -> None:
    """The length of a version, what marks an anonymous event, the letters of sinks."""
    enriched = read_steps("enrichment.sql")["out"][0]
    assert enriched.count(f" FROM {STATE_PREFIX + 1})") == 2
    assert f"< U&'\\{ord(ANONYMOUS) + 1:04X}' THEN SUBSTRING(`key` FROM 2)" in enriched
    assert {
        statement.split()[2]: statement.split()[-1]
        for statement in read_steps("recommendations.sql")["out"]
    } == {sink.name.lower(): f"'{sink}'" for sink in Sink}
