"""What the enrichment and the recommendations promise, on an application that runs in thread mode.

One application for all tests of this file, with ids of their own for each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flink.mesh import Application, Mesh, running, started, wait_until, now_ms


@pytest.fixture(scope="module")
def app(
    mesh: Mesh, environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    with running(mesh, tmp_path_factory.mktemp("thread"), environ) as application:
        started(mesh, application)
        yield application
        application.check()


def test_a(mesh: Mesh, app: Application) -> None:
    mesh.user("u")
    mesh.song("s")
    r = mesh.play_until("u", "s", lambda r: r["user"] and r["item"])
    print(r, app.folder, app.output)
    print(mesh.accepted(r["event_id"]))
