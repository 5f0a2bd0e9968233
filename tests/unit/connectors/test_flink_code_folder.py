"""The folder that a worker's code was loaded from stays, when Flink has removed it."""

from __future__ import annotations

import shutil
from pathlib import Path

from connectors.flink.code_folder import keep_code_folder

MODULE = Path("connectors/flink/code_folder.py")


def copy_of_the_code(folder: Path) -> Path:
    """As Flink gives it to a worker: a link in a folder of the job's, to a folder of a cache."""
    cache = folder / "cache"
    (cache / MODULE).parent.mkdir(parents=True)
    (cache / MODULE).write_text("")
    (folder / "python-files" / "dep").mkdir(parents=True)
    (folder / "python-files" / "dep" / "dep").symlink_to(cache)
    return folder / "python-files" / "dep" / "dep"


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """Whatever else is on the path."""
    first = copy_of_the_code(tmp_path / "1")
    keep_code_folder(first, [str(copy_of_the_code(tmp_path / "2"))])
    assert first.readlink() == tmp_path / "1" / "cache"


def test_a_folder_that_is_gone_becomes_a_link_to_the_present_one(tmp_path: Path) -> None:
    """Restart after restart; paths without the code, and those that are gone, are passed over."""
    loaded = copy_of_the_code(tmp_path / "1")
    path = [str(tmp_path / "packages"), str(loaded)]
    (tmp_path / "packages").mkdir()
    for number in ("2", "3"):
        shutil.rmtree(tmp_path / f"{int(number) - 1}")
        present = copy_of_the_code(tmp_path / number)
        path.append(str(present))
        keep_code_folder(loaded, path)
        assert (loaded / MODULE).resolve() == tmp_path / number / "cache" / MODULE


def test_where_the_code_is_nowhere_else_nothing_is_made(tmp_path: Path) -> None:
    """What then fails says more than a link to nothing."""
    keep_code_folder(tmp_path / "gone", [str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
