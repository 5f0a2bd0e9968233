"""What is kept of a released version: its description, a savepoint of it, and what that knows.

    python -m tests.flink.released VERSION        writes tests/released/VERSION/, once a release

The savepoint is of the default application after a user, a song and some events. So that it can be
restored on empty topics, these are filled up to the offsets that it has read.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.clock import now_ms
from connectors.flink import java
from jobs.settings import DEFAULT_PIPELINES
from tests.flink.mesh import (
    SONG,
    START_SECONDS,
    USER,
    Mesh,
    Record,
    make_mesh,
    running,
    wait_until_started,
)
from tests.support.releases import FOLDER, description
from tests.support.waiting import wait_until
from verification.positions import topic_ends

USER_ID, SONG_ID = "released-user", "released-song"
UPDATED_MS = 1_700_000_000_000
"""When user and song were last changed: an update of an earlier moment is older."""


@dataclass(frozen=True, slots=True)
class Released:
    """A released version as it is kept.

    ``ends``: the offset after the last record that was read, by topic and partition; ``enriched``:
    the event as it came out, with what the state has of its user and its song.
    """

    folder: Path
    ends: dict[str, dict[int, int]]
    enriched: Record

    @classmethod
    def read(cls, version: str) -> Released:
        """That of ``tests/released/<version>``."""
        known = json.loads((FOLDER / version / "state.json").read_text())
        ends = {
            topic: {int(partition): end for partition, end in partitions.items()}
            for topic, partitions in known["ends"].items()
        }
        return cls(FOLDER / version, ends, known["enriched"])

    @property
    def savepoint(self) -> str:
        """Its address."""
        return (self.folder / "savepoint").as_uri()

    def fill(self, mesh: Mesh) -> None:
        """Publish records of nobody until no topic ends before what the savepoint has read."""
        records: dict[str, Record] = {
            "users": {**USER, "user_id": "nobody"},
            "songs": {**SONG, "song_id": "nothing"},
            "interactions": mesh.event("nobody", "nothing"),
        }
        for topic, ends in self.ends.items():
            present = topic_ends(mesh.settings.kafka.address, [topic])[topic]
            for partition, end in ends.items():
                for _ in range(end - present.get(partition, 0)):
                    mesh.publish(topic, records[topic], partition=partition)


def make(version: str, home: Path) -> None:
    """Run the application, let it know something, keep a savepoint of it."""
    folder = FOLDER / version
    environ = {**os.environ, "JAVA_HOME": str(java.find(os.environ).home)}
    (home / "application").mkdir(parents=True)
    with contextmanager(make_mesh)(home / "mesh") as mesh:
        with running(mesh, home / "application", environ) as app:
            wait_until_started(mesh, app)
            mesh.user(USER_ID, updated_at=UPDATED_MS)
            mesh.song(SONG_ID, updated_at=UPDATED_MS)
            enriched = mesh.play_until(USER_ID, SONG_ID, lambda found: bool(found["item"]))
            wait_until(lambda: len(mesh.personalize("users")) == 1, seconds=START_SECONDS)
            rest = app.rest(mesh)
            (job,) = rest.running_jobs()
            # Not at a stop: with the job its cluster would end, before it could tell where.
            location = rest.savepoint(job.id, home / "savepoints")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(location.removeprefix("file:"), folder / "savepoint")
        topics = ["users", "songs", "interactions"]
        known: dict[str, Any] = {
            "pipelines": list(DEFAULT_PIPELINES),
            "made_ms": now_ms(),
            "ends": topic_ends(mesh.settings.kafka.address, topics),
            "enriched": enriched,
        }
        (folder / "state.json").write_text(json.dumps(known, indent=1) + "\n")
        (folder / "release.json").write_bytes(description(version).json())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        make(sys.argv[1], Path(temporary))
