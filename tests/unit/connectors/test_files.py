"""Files and links appear atomically, also with concurrent writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from connectors.files import write_link


def test_a_link_takes_the_place_of_one_that_is_there(tmp_path: Path) -> None:
    """Also of one that leads nowhere."""
    link, target = tmp_path / "link", tmp_path / "target"
    target.touch()
    link.symlink_to(tmp_path / "missing")
    write_link(link, target)
    assert link.readlink() == target
    write_link(link, target)
    assert link.readlink() == target


def test_many_may_make_the_same_link(tmp_path: Path) -> None:
    """As processes of Flink do that start side by side."""
    link, target = tmp_path / "link", tmp_path / "target"
    target.touch()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: write_link(link, target), range(200)))
    assert list(tmp_path.iterdir()) in ([link, target], [target, link])
    assert link.readlink() == target
