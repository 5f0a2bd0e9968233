"""Promises of the repository itself: the lock, the jar list, what may not be in a tracked file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from cli import main as cli
from deploy.local import jars
from deploy.local.settings import PROJECT
from schemas.errors import TunemeshError


def tracked() -> list[Path]:
    """The files of the repository: tracked ones and new ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    names = listed.stdout.decode().split("\0")
    return [PROJECT / name for name in names if name and (PROJECT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    """The tracked files that are text."""
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found.append((path, content.decode("utf-8")))
    return found


def test_every_package_is_checked() -> None:
    """import-linter and mypy are configured with lists: a new package must be in them."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        tools = tomllib.load(file)["tool"]
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    product = packages - {"benchmarks"}
    assert "schemas" in product
    assert set(tools["importlinter"]["root_packages"]) == product
    folders = {path.relative_to(PROJECT).parts[0] for path in tracked() if path.suffix == ".py"}
    assert set(tools["mypy"]["files"]) == folders
    assert set(tools["setuptools"]["packages"]["find"]["include"]) == {f"{p}*" for p in product}


# Put together here so that this file itself does not contain them.
INDEX_HOSTS = [
    "pypi" + r"\.org",
    "python" + r"hosted\.org",
    "repo1?" + r"\.maven",
    "maven" + r"\.apache\.org/maven2",
    "registry" + r"\.npmjs",
    "crates" + r"\.io",
    "static" + r"\.crates",
    "proxy" + r"\.golang\.org",
    "deb" + r"\.debian\.org",
]


def test_no_file_names_an_index_host() -> None:
    """Where packages come from is the machine's business: its clients know it, mirrors included."""
    pattern = re.compile("|".join(INDEX_HOSTS))
    wrong = [str(path.relative_to(PROJECT)) for path, text in texts() if pattern.search(text)]
    assert not wrong


def test_no_file_has_a_path_of_somebodys_machine() -> None:
    """Home folders, work folders: they exist on one machine only."""
    pattern = re.compile(r"(?<![\w.])/(?:root|Users|home/(?!somebody\b)\w+|work|tmp/lab)/[\w.]")
    wrong = [
        f"{path.relative_to(PROJECT)}: {match[0]}"
        for path, text in texts()
        if (match := pattern.search(text)) and path != Path(__file__)
    ]
    assert not wrong


def test_there_is_one_lock() -> None:
    """requirements.lock and no other tool's beside it."""
    names = {path.name for path in tracked()}
    assert "requirements.lock" in names
    assert not names & {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "package-lock.json"}


def requirement_blocks() -> list[str]:
    """Each pinned requirement of the lock with its hashes, as one text."""
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    kept = (line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    blocks: list[str] = []
    for line in kept:
        if line[0].isspace():
            blocks[-1] += "\n" + line
        else:
            blocks.append(line)
    return blocks


def test_every_locked_requirement_is_pinned_and_has_hashes() -> None:
    """Nothing can be installed that was not looked at."""
    blocks = requirement_blocks()
    assert len(blocks) > 50
    unpinned = [block for block in blocks if not re.match(r"[a-z0-9][a-z0-9.-]*==\S+", block)]
    unhashed = [block for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)]
    assert not unpinned
    assert not unhashed


def test_the_lock_names_no_index() -> None:
    """No index address, no folder of wheels, no file: it installs on any machine."""
    text = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--(?:extra-)?index-url|--find-links|--trusted-host| @ ", text)


def test_the_lock_is_of_the_present_requirements() -> None:
    """Every pin of requirements.in is in the lock: `make lock` was not forgotten."""
    wanted = set()
    for line in (PROJECT / "requirements.in").read_text(encoding="utf-8").splitlines():
        if requirement := line.partition("#")[0].strip():
            name, _, version = requirement.partition("==")
            assert version, f"{requirement} is not pinned"
            wanted.add(f"{name.partition('[')[0].lower().replace('_', '-')}=={version}")
    locked = {block.split()[0].rstrip("\\").strip() for block in requirement_blocks()}
    assert wanted <= locked


def test_the_build_backend_is_the_locked_one() -> None:
    """Set-up builds the project without asking an index: the backend must be in the lock."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        required = tomllib.load(file)["build-system"]["requires"]
    locked = {block.split()[0] for block in requirement_blocks()}
    assert set(required) <= locked


def test_every_jar_has_a_checksum_and_a_set() -> None:
    """The list parses, which needs both in each line, and has what the parts ask for."""
    listed = jars.load()
    assert {jar.jar_set for jar in listed} >= {"flink", "kafka", "opensearch", "dynamodb"}
    # Two sets may have a jar in common, and then with one checksum.
    assert len({jar.path for jar in listed}) == len({(jar.path, jar.sha256) for jar in listed})


@pytest.mark.parametrize(
    ("target", "arguments", "selection"),
    [
        ("test", "tests/unit/test_repository.py", "tests/unit/test_repository.py"),
        ("test", "-k wire", "-k wire"),
        ("unit", "./tests/unit/schemas -x", "./tests/unit/schemas -x"),
        ("flink", "-k plans", "tests/flink -k plans"),
    ],
)
def test_make_runs_only_what_is_selected(target: str, arguments: str, selection: str) -> None:
    """One pytest with the selection, in one process and without the checks."""
    command = ["make", "--dry-run", "--old-file", ".venv/.ready", target, f"ARGS={arguments}"]
    environ = {name: os.environ[name] for name in ("HOME", "PATH")}  # not those of an outer make
    done = subprocess.run(
        command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True
    )
    first, last = (" ".join(line.split()) for line in done.stdout.splitlines())
    assert first == ".venv/bin/tunemesh jars fetch"
    assert last == f".venv/bin/python -m pytest {selection}"


def test_ci_runs_the_tests_and_nothing_else() -> None:
    """What CI does is what a developer does."""
    script = PROJECT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert commands == ["make test"]
    assert script.stat().st_mode & 0o111


def test_help_names_every_command_and_loads_none() -> None:
    """`tunemesh --help` answers at once: no sub-command's module is imported for it."""
    code = (
        "import sys; from cli import main as cli; cli.run(cli.tunemesh, ['--help']); "
        "loaded = {n for n in sys.modules if n.startswith(('deploy.', 'cli.'))}; "
        "print(sorted(loaded - {'cli.main'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert result.stdout.rstrip().endswith("[]")
    for name in cli.COMMANDS:
        assert f"  {name} " in result.stdout


def test_a_users_mistake_is_one_message_and_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """TunemeshError: its text and its exit code."""

    class OwnError(TunemeshError):
        exit_code = 2

    @click.command()
    def broken() -> None:
        raise OwnError("kafka: port 29092 is in use. Choose another port.")

    assert cli.run(broken, []) == 2
    captured = capsys.readouterr()
    assert captured.err == "tunemesh: kafka: port 29092 is in use. Choose another port.\n"
    assert captured.out == ""


def test_an_unknown_command_is_answered_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """A typo ends with exit code 2 and says what was not understood."""
    assert cli.run(cli.tunemesh, ["upp"]) == 2
    assert "No such command 'upp'" in capsys.readouterr().err
