"""Starts of an application: on a backlog, with Python processes, and with a user's mistakes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.clock import now_ms
from deploy.local import application
from deploy.local.kafka import TopicSpec, create_topics
from deploy.local.settings import Port, aws_environment
from tests.flink.mesh import (
    START_SECONDS,
    Mesh,
    Published,
    application_environment,
    restoring,
    running,
    wait_until_started,
    write_properties,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

PUBLISHED_BEFORE_MS = 5_000
"""A user or item published this long before an event must be attached to it."""

BACKLOG = 300
"""Of users, of songs and of events each."""


def from_now(mesh: Mesh, **application_group: str) -> dict[str, dict[str, str]]:
    """Settings that read what this test publishes: other tests' events are on the same topics."""
    start = str(now_ms())
    return {
        "tunemesh.application": {
            "group.id": mesh.new_id("group"),
            **application_group,
        },
        "tunemesh.enrichment": {"start": start},
        "tunemesh.recommendations": {"start": start},
    }


def test_every_event_of_a_backlog_is_enriched(
    mesh: Mesh, environ: dict[str, str], tmp_path: Path
) -> None:
    """Users and songs first, events 5 s later by the broker's clock, then the start.

    In process mode, which is thereby tested, too: all events come out and Personalize accepts
    them.
    """
    overrides = from_now(mesh, **{"python.execution-mode": "process"})
    ids = [mesh.new_id("backlog") for _ in range(BACKLOG)]
    users = [mesh.user(f"u-{one}") for one in ids]
    songs = [mesh.song(f"s-{one}") for one in ids]
    newest = max(record.timestamp_ms for record in (*users, *songs))
    wait_until(lambda: now_ms() > newest + PUBLISHED_BEFORE_MS)
    events = [mesh.event(f"u-{one}", f"s-{one}") for one in ids]
    published = [mesh.publish("interactions", event) for event in events]
    assert min(record.timestamp_ms for record in published) >= newest + PUBLISHED_BEFORE_MS

    with running(mesh, tmp_path, environ, overrides) as app:
        wait_until_started(mesh, app)
        wait_until(
            lambda: {event["event_id"] for event in events} <= mesh.enriched_by_id().keys(),
            lambda: "not all events came out",
            START_SECONDS,
        )
        check_enriched(mesh, [event["event_id"] for event in events], users, songs)
        accepted = {event["event_id"] for event in events}
        wait_until(
            lambda: accepted <= {row["event_id"] for row in mesh.personalize("events")},
            lambda: "Personalize has not accepted all events",
        )
        # Their metrics come another way than in thread mode: as of the end of a bundle, so the last
        # deliveries need not show.
        least = {"users": BACKLOG, "items": BACKLOG, "interactions": BACKLOG, "PutEvents": 1}
        wait_until(
            lambda: all(
                (app.progress(mesh)[flow].delivered or 0) >= count for flow, count in least.items()
            ),
            lambda: f"Flink shows {app.progress(mesh)}",
        )
        app.check()
        assert "no shared libpython" not in app.output


def check_enriched(
    mesh: Mesh, event_ids: list[str], users: list[Published], songs: list[Published]
) -> None:
    """Each event once, with its user and its song."""
    bare = []
    enriched = mesh.enriched_by_id()
    for event_id, user, song in zip(event_ids, users, songs, strict=True):
        (record,) = enriched[event_id]
        if record["user"] is None or record["item"] is None:
            bare.append(event_id)
        else:
            assert record["user"]["origin"] == user.origin
            assert record["item"]["origin"] == song.origin
    assert not bare, f"{len(bare)} of {len(event_ids)} events without user or song"


# A user's mistakes.


def start(folder: Path, environ: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Start an application that cannot start: exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.main", *arguments],
        cwd=folder,
        env=application_environment(folder, environ),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def assert_one_line(errors: str, *parts: str) -> None:
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("tunemesh: ")
    for part in parts:
        assert part in lines[0]


def test_a_missing_property_file_is_one_line(tmp_path: Path, environ: dict[str, str]) -> None:
    """Which file was looked for, and what to do."""
    code, output, errors = start(tmp_path, environ)
    assert (code, output) == (1, "")
    assert_one_line(errors, "application_properties.json", "--properties")


@pytest.mark.parametrize(
    ("group", "name", "value", "expected"),
    [
        # The property, its value and the pipelines that there are.
        ("application", "pipelines", "enrichmnt", "enrichment, recommendations, analytics"),
        # The same for any property.
        ("recommendations", "max.in.flight", "many", "a whole number from 1 to 1000"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line(
    mesh: Mesh,
    tmp_path: Path,
    environ: dict[str, str],
    group: str,
    name: str,
    value: str,
    expected: str,
) -> None:
    """Here in a file that is named."""
    overrides = {f"tunemesh.{group}": {name: value}}
    write_properties(tmp_path, application.property_groups(mesh.settings, overrides=overrides))
    (tmp_path / "application_properties.json").rename(tmp_path / "other.json")
    code, output, errors = start(tmp_path, environ, "--properties", "other.json")
    assert (code, output) == (2, "")
    assert_one_line(errors, f"'{name}'", f"'{value}'", expected)


def test_schemas_that_are_not_registered_are_one_line(
    mesh: Mesh, tmp_path: Path, environ: dict[str, str]
) -> None:
    """Said at the start, with the command; not by a job that fails for ever."""
    groups = application.property_groups(
        mesh.settings, overrides={"tunemesh.registry": {"name": "another"}}
    )
    write_properties(tmp_path, groups)
    code, output, errors = start(tmp_path, {**environ, **aws_environment(mesh.settings)})
    assert (code, output) == (1, "")
    assert_one_line(errors, ".v1 is not registered in 'another'", "tunemesh schemas register")


def test_a_registry_that_does_not_answer_is_one_line(
    mesh: Mesh, tmp_path: Path, environ: dict[str, str]
) -> None:
    """Its address, and how to see whether it is up."""
    nowhere = replace(mesh.settings, aws=Port(1, "TUNEMESH_AWS_PORT"))
    overrides = {"tunemesh.registry": {"wait.seconds": "0"}}
    write_properties(tmp_path, application.property_groups(nowhere, overrides=overrides))
    code, output, errors = start(tmp_path, environ)
    assert (code, output) == (1, "")
    assert_one_line(errors, "http://127.0.0.1:1", "tunemesh status")


def test_a_topic_with_the_time_of_its_producers_is_one_line(
    mesh: Mesh, tmp_path: Path, environ: dict[str, str]
) -> None:
    """With the command that corrects it; unless the setting accepts it: then the start continues,
    here to an OpenSearch that does not answer."""
    environ = {**environ, **aws_environment(mesh.settings)}
    overrides = {
        "tunemesh.application": {"pipelines": "enrichment,analytics"},
        "tunemesh.analytics": {"opensearch.endpoint.url": "http://127.0.0.1:1"},
    }
    partitions = application.PARTITIONS
    producers = TopicSpec("songs", partitions, {"message.timestamp.type": "CreateTime"})
    create_topics(mesh.settings.kafka.address, [producers])
    try:
        write_properties(tmp_path, application.property_groups(mesh.settings, overrides=overrides))
        code, output, errors = start(tmp_path, environ)
        assert (code, output) == (1, "")
        command = "--entity-name songs --add-config message.timestamp.type=LogAppendTime"
        assert_one_line(errors, "LogAppendTime for songs:", command)

        overrides["tunemesh.enrichment"] = {"check.timestamps": "false"}
        write_properties(tmp_path, application.property_groups(mesh.settings, overrides=overrides))
        code, output, errors = start(tmp_path, environ)
        assert (code, output) == (1, "")
        assert_one_line(errors, "OpenSearch does not answer")
    finally:
        application.prepare(mesh.settings)


def test_a_pipeline_is_added_without_losing_state(
    mesh: Mesh, environ: dict[str, str], tmp_path: Path
) -> None:
    """From a savepoint of the enrichment alone: with the recommendations beside it, the user and
    the song are known though no record of them is read, and what came out before is delivered."""
    overrides = from_now(mesh)
    user, song = mesh.new_id("user"), mesh.new_id("song")
    alone, both = (tmp_path / name for name in ("alone", "both"))
    for folder in (alone, both):
        folder.mkdir()
    overrides["tunemesh.application"]["pipelines"] = "enrichment"
    with running(mesh, alone, environ, overrides) as app:
        wait_until_started(mesh, app)
        mesh.user(user)
        mesh.song(song)
        before = mesh.play_until(user, song, lambda record: bool(record["user"] and record["item"]))
        rest = app.rest(mesh)
        (job,) = rest.running_jobs()
        savepoint = rest.savepoint(job.id, tmp_path / "savepoints")
    overrides["tunemesh.application"]["pipelines"] = "enrichment,recommendations"
    overrides["tunemesh.enrichment"]["restored"] = "true"
    with running(mesh, both, environ, overrides, restoring(both, savepoint)) as app:
        wait_until_started(mesh, app)
        after = mesh.play(user, song)
        assert (after["user"], after["item"]) == (before["user"], before["item"])
        mesh.accepted(before["event_id"])
        mesh.accepted(after["event_id"])
        wait_until(lambda: app.progress(mesh)["interactions"].delivered)
        progress = app.progress(mesh)
        assert (progress["users"].delivered, progress["items"].delivered) == (0, 0)
        app.check()
