"""Promises of the documentation: generated pages are current, and what they name exists."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.schemas import schemas
from deploy.local.settings import PROJECT
from docs import generate
from schemas.invalid import Reason
from tests.support.commands import LEAVES

PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")))
FOLDERS = (
    "schemas|connectors|jobs|batch|services|emulators|verification|deploy|cli|benchmarks|tests|docs"
)


def test_generated_pages_are_current() -> None:
    """`make docs` was run after the last change of what they are generated from."""
    for name, text in generate.pages().items():
        assert (PROJECT / "docs" / name).read_text(encoding="utf-8") == text, name


def test_a_page_that_is_not_current_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name and the exit code."""
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "docs/reference/metrics.md is not current" in capsys.readouterr().err


def test_every_path_that_a_page_names_exists() -> None:
    """Files and folders of the repository in backquotes; renaming one fails here."""
    path = re.compile(rf"`((?:{FOLDERS})/[\w./-]*)`")
    missing = {
        f"{page.relative_to(PROJECT)}: {name}"
        for page in PAGES
        for name in path.findall(page.read_text(encoding="utf-8"))
        if not (PROJECT / name).exists()
    }
    assert not missing


def test_the_page_has_every_environment_variable_that_the_code_names() -> None:
    """Also those that are declared in a class that docs/generate.py does not list."""
    named: set[str] = set()
    for folder in FOLDERS.split("|"):
        if folder != "tests":
            for file in (PROJECT / folder).rglob("*.py"):
                named |= set(re.findall(r'"(TUNEMESH_[A-Z_]+|IS_LOCAL)"', file.read_text()))
    page = generate.pages()["reference/environment-variables.md"]
    # The mark by which a server's process is recognised is not a setting.
    assert named - {"TUNEMESH_SERVER"} == set(re.findall(r"`(TUNEMESH_[A-Z_]+|IS_LOCAL)`", page))


def test_every_reason_is_explained() -> None:
    """A dead letter's code can be looked up."""
    assert all(reason.explanation for reason in Reason)


def test_every_figure_can_be_traced_and_repeated() -> None:
    """By the date and the commit at which it was recorded, and its command."""
    reports = (PROJECT / "docs" / "benchmarks" / "reports").glob("*.json")
    figures = [f for file in reports for f in json.loads(file.read_text())["figures"]]
    assert len(figures) > 30
    for figure in figures:
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", figure["date"]), figure
        assert re.fullmatch(r"[0-9a-f]{7}", figure["commit"]), figure
        assert figure["command"], figure


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    """`mkdocs --strict` checks the links of the pages, not those of README."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)", text)
    assert len(links) > 30
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_the_readme_links_every_guide() -> None:
    """A new guide is found from there."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    for guide in (PROJECT / "docs" / "how-to").glob("*.md"):
        assert f"docs/how-to/{guide.name}" in text, guide.name


COMMAND = re.compile(r"^(?:\$ )?tunemesh (?P<words>(?:[^#\n]|\\\n)*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_command_of_a_page_parses(page: Path) -> None:
    """Names and options as the commands have them."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for match in COMMAND.finditer(block.replace("\\\n", " ")):
            for command in match["words"].split(";"):
                words = shlex.split(command.strip().removeprefix("tunemesh "))
                path = next(
                    " ".join(words[:n])
                    for n in (2, 1)
                    if f"tunemesh {' '.join(words[:n])}" in LEAVES
                )
                leaf = LEAVES[f"tunemesh {path}"]
                leaf.make_parser(click.Context(leaf)).parse_args(words[len(path.split()) :])


def test_the_recipe_of_a_domain_gives_a_valid_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands, as the page has them."""
    page = (PROJECT / "docs" / "how-to" / "add-an-item-domain.md").read_text()
    recipe = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "schemas").symlink_to(PROJECT / "schemas")
    subprocess.run(["sh", "-euc", recipe], cwd=tmp_path, check=True)
    monkeypatch.setenv("TUNEMESH_CONTRACTS", str(tmp_path / "mesh"))
    result = CliRunner().invoke(schemas, ["check"])
    assert result.exit_code == 0, result.output
    assert "audiobooks  " in result.output
