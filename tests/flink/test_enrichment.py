"""Enrichment and recommendations, on one application in thread mode.

All tests of this file share the application, each with ids of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cli.demos.variants import next_version
from connectors.clock import now_ms
from connectors.glue.registry import RegistryError
from deploy.local.job_progress import FlowProgress
from jobs.metrics import DELIVERY
from schemas.codec import Encoder
from schemas.invalid import Reason
from schemas.rules import FEBRUARY_1970_MS
from tests.flink.mesh import (
    DAY_MS,
    HOUR_MS,
    SONG,
    USER,
    Application,
    Mesh,
    Published,
    running,
    wait_until_started,
)
from tests.support.waiting import wait_until
from verification.malformed import (
    DIMENSION_REASONS,
    INTERACTION_REASONS,
    corrupt_record,
    corrupt_value,
)
from verification.positions import topic_ends

pytestmark = pytest.mark.timeout(900)

QUIET_SECONDS = 3.0
"""How long the topics are silent before the single play: longer than any buffer or window."""

AT_ONCE_SECONDS = 10.0
"""For a single play to come out; below a second on a quiet machine. Faults take 14 s or more."""


@pytest.fixture(scope="module")
def app(
    mesh: Mesh, environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    """The application; it must run to the end without a single restart."""
    with running(mesh, tmp_path_factory.mktemp("thread"), environ) as application:
        wait_until_started(mesh, application)
        yield application
        application.check()


@pytest.fixture(autouse=True)
def still_running(app: Application) -> Iterator[None]:
    """No test may make the job fail: it would restart and hide the failure."""
    yield
    app.check()


def at_once(mesh: Mesh) -> float:
    """Seconds for a single play to come out, by how long another one takes on this machine now."""
    begun = time.monotonic()
    mesh.play(None, "nothing")
    return AT_ONCE_SECONDS + 10 * (time.monotonic() - begun)


def known_user(mesh: Mesh, **changes: Any) -> str:
    """A new user that has arrived."""
    user_id = mesh.new_id("user")
    published = mesh.user(user_id, **changes)
    mesh.play_until(user_id, "nothing", lambda r: origin(r["user"]) == published.origin)
    return user_id


def known_song(mesh: Mesh, **changes: Any) -> str:
    """A new song that has arrived."""
    song_id = mesh.new_id("song")
    published = mesh.song(song_id, **changes)
    mesh.play_until(None, song_id, lambda r: origin(r["item"]) == published.origin)
    return song_id


def origin(part: dict[str, Any] | None) -> str | None:
    return None if part is None else part["origin"]


def play_until_attached(
    mesh: Mesh, user_id: str, song_id: str, user: Published, song: Published
) -> dict[str, Any]:
    """The first event that has these versions of its user and its song."""
    wanted = (user.origin, song.origin)
    return mesh.play_until(
        user_id, song_id, lambda r: (origin(r["user"]), origin(r["item"])) == wanted
    )


def wait_until_passed(mesh: Mesh, topic: str, role_field: str, published: Published) -> None:
    """Wait until a version has passed the join, whether it won or not.

    A partition is read in order, so a marker that comes after it on the same partition tells.
    """
    marker = mesh.new_id("marker")
    record = {**USER, "user_id": marker} if role_field == "user" else {**SONG, "song_id": marker}
    last = mesh.publish(topic, record, partition=published.partition)
    user_id, item_id = (marker, "nothing") if role_field == "user" else (None, marker)
    mesh.play_until(user_id, item_id, lambda r: origin(r[role_field]) == last.origin)


# Enriched records.


def test_an_enriched_event_has_everything(mesh: Mesh) -> None:
    """The event as it was, the user and the item as they are, and published each came from."""
    user_id, song_id = mesh.new_id("ユーザー"), mesh.new_id("canção")
    user, song = mesh.user(user_id), mesh.song(song_id)
    mesh.play_until(user_id, song_id, lambda r: r["user"] is not None and r["item"] is not None)
    event = mesh.event(user_id, song_id, recommendation_id="rid-1", impression=["a", song_id])
    published = mesh.publish("interactions", event)
    assert mesh.enriched(event["event_id"]) == {
        **event,
        "origin": published.origin,
        "published_at": published.timestamp_ms,
        "user": {
            "country": "PT",
            "age_band": "25-34",
            "subscription": "premium",
            "created_at": 1_500_000_000_000,
            "origin": user.origin,
        },
        "item": {
            "item_type": "song",
            "title": "Grândola, Vila Morena",
            "creator": "Zeca Afonso",
            "genres": ["folk", "protest"],
            "duration_ms": 211_000,
            "language": None,
            "created_at": 90_000_000_000,
            "origin": song.origin,
        },
    }
    message = mesh.enriched_message(event["event_id"])
    assert message.key() == user_id.encode()
    assert len(mesh.enriched_all(event["event_id"])) == 1


def test_a_podcast_is_an_item_like_a_song(mesh: Mesh) -> None:
    """By its own mapping: the first creator that is known, categories as genres."""
    podcast_id = mesh.new_id("podcast")
    podcast = {
        "podcast_id": podcast_id,
        "title": "Ciência",
        "publisher": "Rede",
        "host": None,
        "categories": ["science"],
        "language": "pt",
        "updated_at": None,
        "deleted": False,
    }
    published = mesh.publish("podcasts", podcast)
    record = mesh.play_until(None, podcast_id, lambda r: r["item"] is not None)
    assert record["item"] == {
        "item_type": "podcast",
        "title": "Ciência",
        "creator": "Rede",
        "genres": ["science"],
        "duration_ms": None,
        "language": "pt",
        "created_at": None,
        "origin": published.origin,
    }


def test_a_new_item_domain_needs_a_contract_and_no_code(mesh: Mesh) -> None:
    """Audiobooks: a folder in TUNEMESH_CONTRACTS, registered, its topic made."""
    isbn = mesh.new_id("isbn")
    book = {
        "isbn": isbn,
        "shelves": ["crime"],
        "narrator": None,
        "author": "A. Christie",
        "minutes_in_ms": 3_600_000,
        "name": "Death on the Nile",
    }
    published = mesh.publish("audiobooks", book)
    record = mesh.play_until(None, isbn, lambda r: r["item"] is not None)
    assert record["item"] == {
        "item_type": "audiobook",
        "title": "Death on the Nile",
        "creator": "A. Christie",
        "genres": ["crime"],
        "duration_ms": 3_600_000,
        "language": None,
        "created_at": None,
        "origin": published.origin,
    }
    mesh.publish("audiobooks", {**book, "withdrawn": True})
    mesh.play_until(None, isbn, lambda r: r["item"] is None)


def test_an_event_of_an_unknown_user_and_item_is_enriched_at_once(mesh: Mesh) -> None:
    """Without them; it does not wait for what may never come."""
    limit, begun = at_once(mesh), time.monotonic()
    record = mesh.play(mesh.new_id("stranger"), mesh.new_id("unheard"))
    assert (record["user"], record["item"]) == (None, None)
    assert time.monotonic() - begun < limit


def test_anonymous_listening_is_enriched_with_the_item(mesh: Mesh) -> None:
    """Keyed by its session; a user whose id happens to be the session's is not attached."""
    song_id, namesake = known_song(mesh), known_user(mesh)
    event = mesh.event(None, song_id, session_id=namesake)
    mesh.publish("interactions", event)
    record = mesh.enriched(event["event_id"])
    assert record["user"] is None
    assert record["item"]["title"] == SONG["title"]
    assert mesh.enriched_message(event["event_id"]).key() == namesake.encode()
    accepted = mesh.accepted(event["event_id"])
    assert (accepted["user_id"], accepted["session_id"]) == (None, namesake)


def test_a_compressed_event_is_like_any_other(mesh: Mesh) -> None:
    """zlib, as producers of the Glue registry may be configured."""
    song_id = known_song(mesh)
    event = mesh.event(mesh.new_id("user"), song_id)
    value = mesh.encode("interactions", event, compress=True)
    published = mesh.publish("interactions", value, event["user_id"])
    record = mesh.enriched(event["event_id"])
    assert {name: record[name] for name in event} == event
    assert (record["origin"], origin(record["item"]) is None) == (published.origin, False)


def test_late_events_and_events_out_of_order_are_enriched(mesh: Mesh) -> None:
    """A phone that was offline for a month, one whose clock is ahead, and their order."""
    user_id, song_id = known_user(mesh), known_song(mesh)
    times = [now_ms() - 30 * DAY_MS, now_ms() + HOUR_MS, now_ms() - HOUR_MS, FEBRUARY_1970_MS]
    events = [mesh.event(user_id, song_id, occurred_at=time_ms) for time_ms in times]
    for event in events:
        mesh.publish("interactions", event)
    for event in events:
        record = mesh.enriched(event["event_id"])
        assert record["occurred_at"] == event["occurred_at"]
        assert record["user"] is not None
        assert record["item"] is not None
    offsets = [mesh.enriched_message(event["event_id"]).offset() for event in events]
    assert offsets == sorted(offsets)


# Versions.


def test_updates_of_user_and_item_are_seen(mesh: Mesh) -> None:
    """From then on: the newest version, and its origin."""
    user_id, song_id = known_user(mesh), known_song(mesh)
    user, song = mesh.user(user_id, subscription="free"), mesh.song(song_id, title="Remastered")
    record = play_until_attached(mesh, user_id, song_id, user, song)
    assert record["user"]["subscription"] == "free"
    assert record["item"]["title"] == "Remastered"


def test_an_older_update_that_arrives_late_never_wins(mesh: Mesh) -> None:
    """updated_at decides, not the order of arrival."""
    now = now_ms()
    user_id = known_user(mesh, updated_at=now, country="NEW")
    song_id = known_song(mesh, updated_at=now, title="new")
    late_user = mesh.user(user_id, updated_at=now - 1, country="OLD")
    late_song = mesh.song(song_id, updated_at=now - 1, title="old")
    wait_until_passed(mesh, "users", "user", late_user)
    wait_until_passed(mesh, "songs", "item", late_song)
    record = mesh.play(user_id, song_id)
    assert (record["user"]["country"], record["item"]["title"]) == ("NEW", "new")


def test_of_two_versions_of_the_same_time_the_later_offset_wins(mesh: Mesh) -> None:
    """Whatever their contents."""
    now = now_ms()
    user_id = known_user(mesh, updated_at=now, country="ZZ")
    song_id = known_song(mesh, updated_at=now, title="zz")
    user = mesh.user(user_id, updated_at=now, country="AA")
    song = mesh.song(song_id, updated_at=now, title="aa")
    play_until_attached(mesh, user_id, song_id, user, song)


@pytest.mark.parametrize("kind", ["tombstone", "deleted"])
def test_a_deleted_user_or_item_is_gone_until_it_is_made_again(mesh: Mesh, kind: str) -> None:
    """By a record without a value, or by one that says so."""
    user_id, song_id = known_user(mesh), known_song(mesh)
    if kind == "tombstone":
        mesh.publish("users", None, user_id)
        mesh.publish("songs", None, song_id)
    else:
        mesh.user(user_id, deleted=True)
        mesh.song(song_id, deleted=True)
    mesh.play_until(user_id, song_id, lambda r: r["user"] is None and r["item"] is None)
    user, song = mesh.user(user_id), mesh.song(song_id)
    play_until_attached(mesh, user_id, song_id, user, song)


# Personalize.


def test_personalize_accepts_an_event_with_every_field(mesh: Mesh) -> None:
    """recommendationId and impression of the answer that it came from, completion, properties."""
    user_id, song_id = known_user(mesh), known_song(mesh)
    event = mesh.event(
        user_id,
        song_id,
        recommendation_id="RID-7f",
        impression=["other", song_id],
        played_ms=105_500,
    )
    mesh.publish("interactions", event)
    row = mesh.accepted(event["event_id"])
    assert row["recommendation_id"] == "RID-7f"
    assert row["impression"] == ["other", song_id]
    assert (row["user_id"], row["session_id"]) == (user_id, event["session_id"])
    assert (row["item_id"], row["event_type"]) == (song_id, "play")
    assert row["event_value"] == pytest.approx(0.5)
    assert json.loads(row["properties"]) == {
        "itemType": "song",
        "device": "ios",
        "country": "PT",
        "subscription": "premium",
        "genre": "folk|protest",
    }


def test_an_event_behind_transactional_updates_comes_out_at_once(mesh: Mesh) -> None:
    """Markers are offsets without records, and an aborted update never arrives."""
    limit = at_once(mesh)
    user_id, song_id = known_user(mesh), known_song(mesh)
    with mesh.transaction():
        mesh.user(user_id, country="CV")
        mesh.song(song_id, title="In a transaction")
    with mesh.transaction(commit=False):
        mesh.user(user_id, country="XX")
        mesh.song(song_id, title="Aborted")
    time.sleep(QUIET_SECONDS)  # an update is attached to events that follow it by this much
    event = mesh.event(user_id, song_id)
    mesh.publish("interactions", event)
    record = mesh.enriched(event["event_id"], limit)
    assert record["user"]["country"] == "CV"
    assert record["item"]["title"] == "In a transaction"
    mesh.accepted(event["event_id"], limit)


def test_a_single_play_on_silent_topics_comes_out_at_once(mesh: Mesh) -> None:
    """Nothing may wait for a next record: no buffer, no window, no watermark."""
    limit = at_once(mesh)
    user_id, song_id = known_user(mesh), known_song(mesh)
    time.sleep(QUIET_SECONDS)  # the silence is the case under test
    event = mesh.event(user_id, song_id)
    mesh.publish("interactions", event)
    record = mesh.enriched(event["event_id"], limit)
    assert record["user"] is not None
    assert record["item"] is not None
    mesh.accepted(event["event_id"], limit)


@pytest.mark.parametrize(
    "change",
    [{"session_id": "null"}, {"event_type": "x" * 257}],
    ids=["null session", "event type"],
)
def test_what_personalize_would_refuse_is_a_dead_letter_of_the_delivery(
    mesh: Mesh, change: dict[str, str]
) -> None:
    """It is enriched all the same: other consumers may use it."""
    event = mesh.event(mesh.new_id("user"), "nothing", **change)
    mesh.publish("interactions", event)
    mesh.enriched(event["event_id"])
    message = mesh.enriched_message(event["event_id"])
    dead_letter = mesh.dead_letter_at(message.topic(), message.partition(), message.offset())
    assert (dead_letter["step"], dead_letter["event_id"]) == ("deliver", event["event_id"])
    assert dead_letter["error_code"] == "personalize.InvalidEvent"
    assert next(iter(change)) in dead_letter["message"]
    assert (dead_letter["key"], dead_letter["payload"]) == (message.key(), message.value())
    assert dead_letter["timestamp"] == message.timestamp()[1]
    assert not [row for row in mesh.personalize("events") if row["event_id"] == event["event_id"]]


# Malformed records.


def test_every_malformed_record_is_a_dead_letter_and_nothing_else_happens(mesh: Mesh) -> None:
    """On interactions, users and songs at once, between good events that all come out.

    That the job is never restarted is checked after each test of this file.
    """
    user_id, song_id = known_user(mesh), known_song(mesh)
    foreign = mesh.encode("songs", {**SONG, "song_id": "foreign"})
    foreign_to_songs = mesh.encode("users", {**USER, "user_id": "foreign"})
    malformed: list[tuple[Reason, Published, bytes | None]] = []
    good: list[str] = []

    def publish_good() -> None:
        event = mesh.event(user_id, song_id)
        mesh.publish("interactions", event, partition=len(good) % 2)
        good.append(event["event_id"])

    def publish_malformed(reason: Reason, topic: str, record: dict[str, Any], other: bytes) -> None:
        contract = mesh.contracts.for_topic(topic)
        value = mesh.encode(topic, corrupt_record(reason, contract, record, 0))
        corrupted = corrupt_value(reason, contract, value, other, 1)
        malformed.append((reason, mesh.publish(topic, corrupted, "malformed"), corrupted))

    for reason in INTERACTION_REASONS:
        publish_good()
        publish_malformed(reason, "interactions", mesh.event(user_id, song_id), foreign)
    for reason in DIMENSION_REASONS:
        now = now_ms()
        user = {**USER, "user_id": user_id, "country": "XX", "updated_at": now}
        song = {**SONG, "song_id": song_id, "title": "XX", "updated_at": now}
        publish_malformed(reason, "users", user, foreign)
        publish_malformed(reason, "songs", song, foreign_to_songs)
    publish_good()

    assert {reason for reason, _, _ in malformed} == set(Reason)
    for reason, published, value in malformed:
        dead_letter = mesh.dead_letter(published)
        assert (dead_letter["error_code"], dead_letter["step"]) == (reason, "decode"), published
        assert (dead_letter["key"], dead_letter["payload"]) == (b"malformed", value)
        assert dead_letter["timestamp"] == published.timestamp_ms
    for event_id in good:
        record = mesh.enriched(event_id)
        assert (record["user"]["country"], record["item"]["title"]) == ("PT", SONG["title"])
        mesh.accepted(event_id)
    # One each: a record is decoded once, for both branches of the SQL.
    origins = [(d["topic"], d["partition"], d["offset"]) for d in mesh.dead_letters()]
    assert len(origins) == len(set(origins))


def test_an_event_that_came_twice_is_sent_twice_and_counted_once(mesh: Mesh) -> None:
    """event_id is the key of every effect; Personalize ignores the second one."""
    event = mesh.event(mesh.new_id("user"), "nothing")
    for _ in range(2):
        mesh.publish("interactions", event)
    wait_until(lambda: len(mesh.enriched_all(event["event_id"])) == 2)
    wait_until(lambda: mesh.accepted(event["event_id"])["duplicates"] == 1)


# Schemas and metrics.


def test_schemas_change_while_the_job_runs(mesh: Mesh) -> None:
    """A field more, a field less, a producer back at v1: read as the job's version, in
    the same process, and nothing becomes a dead letter. An incompatible version is refused."""
    songs, plays = mesh.contracts["songs"], mesh.contracts["interactions"]
    newer_songs = next_version(songs, {"name": "mood", "type": ["null", "string"], "default": None})
    newer_plays = next_version(
        plays, {"name": "volume", "type": "int", "default": 5}, removed={"device"}
    )
    refused = next_version(newer_plays, removed={"session_id"})
    known = len(mesh.dead_letters())

    mesh.registry.register(newer_songs)
    song_id = mesh.new_id("song")
    value = Encoder(newer_songs, mesh.registry.version_id(newer_songs)).encode(
        {**SONG, "song_id": song_id, "title": "Second version", "mood": "calm"}
    )
    mesh.publish("songs", value, song_id)
    mesh.play_until(
        None, song_id, lambda r: r["item"] is not None and r["item"]["title"] == "Second version"
    )

    mesh.registry.register(newer_plays)
    event = mesh.event(None, song_id)
    newest = {**{k: v for k, v in event.items() if k != "device"}, "volume": 9}
    encoder = Encoder(newer_plays, mesh.registry.version_id(newer_plays))
    mesh.publish("interactions", encoder.encode(newest), event["session_id"])
    enriched = mesh.enriched(event["event_id"])
    assert {name: enriched[name] for name in event} == {**event, "device": None}
    assert mesh.accepted(event["event_id"])["item_id"] == song_id

    with pytest.raises(RegistryError, match="session_id"):
        mesh.registry.register(refused)

    published = mesh.song(song_id, title="First version again")
    mesh.play_until(None, song_id, lambda r: origin(r["item"]) == published.origin)
    assert mesh.play(None, song_id)["device"] == "ios"
    assert len(mesh.dead_letters()) == known


def test_metrics_account_for_every_record(mesh: Mesh, app: Application) -> None:
    """Read from Flink as `tunemesh status` does: what was published has been decoded or is a dead
    dead_letter, what was enriched has been delivered or is one, and nothing is behind.

    Two subtasks share one sink engine here, so none of it may count twice.
    """
    mesh.play(known_user(mesh), known_song(mesh))
    mesh.dead_letter(mesh.publish("interactions", b"\x07"))

    def ends(topic: str) -> int:
        return sum(topic_ends(mesh.settings.kafka.address, [topic])[topic].values())

    flows: dict[str, FlowProgress] = {}

    def all_there() -> bool:
        flows.update(app.progress(mesh))
        done = [
            (flow.delivered or 0) + (flow.rejected or 0)
            for flow in (flows["interactions"], flows["PutEvents"])
        ]
        return (
            done == [ends("interactions"), ends("interactions-enriched")]
            and [flow.behind for flow in flows.values()] == [0] * 6
            # Flink fetches the metrics of its tasks one after the other.
            and flows["PutItems"].metrics.get("calls", 0) >= 1
        )

    wait_until(all_there, lambda: f"Flink shows {flows}")
    assert flows["interactions"].metrics["dead_letters_bad_magic_byte"] >= 1
    assert flows["interactions"].metrics["held"] >= 1
    assert flows["interactions"].metrics["freshness_lag_ms"] > 0
    assert flows["PutEvents"].metrics["rate_limit_per_minute"] > 0
    assert set(flows["PutEvents"].metrics) >= {
        metric.name for metric in DELIVERY if "<" not in metric.name
    }
