"""Wheels: from the cache, checked, unpacked."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from deploy.package import wheels
from deploy.package.errors import PackageError
from deploy.package.requirements import Requirement


def wheel(folder: Path, name: str, files: Mapping[str, bytes]) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(zipfile.ZipInfo(file), content)
    return path


def requirement(name: str, *hashes: str) -> Requirement:
    return Requirement(name, "1.0", "", hashes, ())


class Index:
    """Brings what it has, and counts."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.asked: list[list[str]] = []

    def __call__(self, wanted: Sequence[Requirement], python: str, folder: Path) -> None:
        self.asked.append([entry.name for entry in wanted])
        for entry in wanted:
            wheel(folder, entry.name.replace("-", "_"), self.files)


def hash_of(folder: Path, files: Mapping[str, bytes]) -> str:
    folder.mkdir()
    return hashlib.sha256(wheel(folder, "any", files).read_bytes()).hexdigest()


def test_a_wheel_is_downloaded_once(tmp_path: Path) -> None:
    """Then the cache has it, for each version of Python its own."""
    files = {"a.py": b"1"}
    index = Index(files)
    wanted = [requirement("a-b", hash_of(tmp_path / "hash", files))]
    (first,) = wheels.provide_wheels(wanted, "3.12", tmp_path / "cache", index)
    (second,) = wheels.provide_wheels(wanted, "3.12", tmp_path / "cache", index)
    assert first == second
    assert first.name == "a_b-1.0-py3-none-any.whl"
    wheels.provide_wheels(wanted, "3.11", tmp_path / "cache", index)
    assert index.asked == [["a-b"], ["a-b"]]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["cp311", "cp312"]


def test_a_wheel_that_the_lock_does_not_know_is_refused(tmp_path: Path) -> None:
    """Whoever brought it, and also when it is in the cache."""
    index = Index({"a.py": b"another"})
    wanted = [requirement("a", hash_of(tmp_path / "hash", {"a.py": b"1"}))]
    for _ in range(2):
        with pytest.raises(PackageError, match=r"no wheel of a 1\.0 for Python 3\.12"):
            wheels.provide_wheels(wanted, "3.12", tmp_path / "cache", index)
    assert index.asked == [["a"], ["a"]]


def test_the_message_of_pip_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which wheels were wanted, and the reason; no traceback."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    wanted = [requirement("boto3", "0" * 64)]
    with pytest.raises(PackageError, match=r"1 wheels for Python 3\.12 \(boto3\)") as caught:
        wheels.pip_download(wanted, "3.12", tmp_path)
    assert "No matching distribution" in str(caught.value)


def test_only_what_belongs_on_the_path_is_unpacked(tmp_path: Path) -> None:
    """Packages and their metadata; no scripts, no headers, no models of unused services."""
    files = {
        "a/__init__.py": b"1",
        "a-1.0.dist-info/METADATA": b"2",
        "a-1.0.data/purelib/a/more.py": b"3",
        "a-1.0.data/platlib/a/fast.so": b"4",
        "a-1.0.data/scripts/a": b"5",
        "a-1.0.data/headers/a.h": b"6",
        "botocore/data/endpoints.json": b"7",
        "botocore/data/glue/2017-03-31/service-2.json.gz": b"8",
        "botocore/data/glacier/2012-06-01/service-2.json.gz": b"9",
    }
    assert set(wheels.read_members([wheel(tmp_path, "a", files)])) == {
        "a/__init__.py",
        "a-1.0.dist-info/METADATA",
        "a/more.py",
        "a/fast.so",
        "botocore/data/endpoints.json",
        "botocore/data/glue/2017-03-31/service-2.json.gz",
    }


def test_two_wheels_with_one_file_are_an_error(tmp_path: Path) -> None:
    """One would overwrite the other's."""
    both = [wheel(tmp_path, name, {"six.py": b"1"}) for name in ("a", "b")]
    with pytest.raises(PackageError, match=r"both a-1\.0.*whl and b-1\.0.*whl have six\.py"):
        wheels.read_members(both)
