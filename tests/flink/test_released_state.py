"""A savepoint of each released version restores under today's code, and its state is attached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from jobs.settings import DEFAULT_PIPELINES
from tests.flink.mesh import Mesh, make_mesh, restoring, running, wait_until_started
from tests.flink.released import SONG_ID, UPDATED_MS, USER_ID, Released
from tests.support.releases import FOLDER, rebuilds
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

VERSIONS = [
    folder.parent.name
    for folder in sorted(FOLDER.glob("*/savepoint"))
    if (folder.parent.name, DEFAULT_PIPELINES) not in rebuilds()
]


@pytest.fixture
def empty_mesh(tmp_path: Path, audiobooks: Path) -> Iterator[Mesh]:
    """Topics of its own: the savepoint has offsets in them."""
    yield from make_mesh(tmp_path / "mesh", audiobooks)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_savepoint_of_a_released_version_goes_on(
    version: str, empty_mesh: Mesh, environ: dict[str, str], tmp_path: Path
) -> None:
    """User and song are known from the savepoint alone; what is older than they are is refused,
    by the enrichment and for Personalize, and what is newer wins."""
    mesh, released = empty_mesh, Released.read(version)
    released.fill(mesh)
    settings = {"tunemesh.enrichment": {"restored": "true"}}
    arguments = restoring(tmp_path, released.savepoint)
    with running(mesh, tmp_path, environ, settings, arguments) as app:
        wait_until_started(mesh, app)
        found = mesh.play(USER_ID, SONG_ID)
        # The topics were read to their ends, and nobody has committed that: the savepoint says so.
        metrics: list[Mapping[str, float]] = []

        def is_shown() -> bool:
            metrics[:] = [f.metrics for n, f in app.progress(mesh).items() if n == "interactions"]
            return bool(metrics) and "given_up" in metrics[0]

        wait_until(is_shown, "Flink shows the metrics of the interactions")
        assert metrics[0]["given_up"] == 0
        assert (found["user"], found["item"]) == (
            released.enriched["user"],
            released.enriched["item"],
        )

        def is_delivered(user_id: str) -> bool:
            return user_id in {row["user_id"] for row in mesh.personalize("users")}

        older = {"updated_at": UPDATED_MS - 1}
        mesh.user(USER_ID, country="XX", **older)
        mesh.song(SONG_ID, title="An older title", **older)
        # Others of the same topics after them, twice: what was refused would have passed by then.
        for marker in ("first-marker", "second-marker"):
            mesh.user(marker)
            wait_until(partial(is_delivered, marker))
        assert not is_delivered(USER_ID)
        found = mesh.play(USER_ID, SONG_ID)
        assert found["user"] == released.enriched["user"]
        assert found["item"] == released.enriched["item"]
        mesh.user(USER_ID, country="CV", updated_at=UPDATED_MS + 1)
        mesh.play_until(USER_ID, SONG_ID, lambda record: record["user"]["country"] == "CV")
        app.check()
