"""The dataset that every system reads: generated records, the same in each run.

A record depends only on the shape of the dataset and its number. Pure: :mod:`benchmarks.publish`
publishes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from benchmarks.expected import Record, content
from schemas.model import Contracts

_COUNTRIES = ("IT", "GB", "US", "DE", "FR", "ES", "SE", "BR")
_AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
_SUBSCRIPTIONS = ("free", "premium", "family")
_GENRES = ("rock", "pop", "jazz", "classical", "j-rock", "ambient", "folk", "metal")
_CATEGORIES = ("News", "Science & Medicine", "Comedy", "Technology", "History")
_EVENT_TYPES = ("play", "complete", "skip", "like")
_DEVICES = ("ios", "android", "web", "speaker", None)
_YEAR_MS = 365 * 24 * 3_600_000

# Every dimension record is published once. Then some are published again, with a newer updated_at,
# an older one, or deleted, so that the order of versions matters.
_NEWER_EVERY = 50
_OLDER_EVERY = 70
_DELETED_EVERY = 500


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the dataset, and ``base_ms``, to which all its times are relative."""

    events: int
    users: int
    songs: int
    podcasts: int
    base_ms: int

    @classmethod
    def of(cls, events: int, users: int, items: int, base_ms: int) -> Shape:
        """Create a shape with ten songs per podcast."""
        podcasts = items // 11
        return cls(events, users, items - podcasts, podcasts, base_ms)

    def as_json(self) -> dict[str, int]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Published:
    """A record with its topic and key."""

    topic: str
    key: str
    record: Record


def _draw(kind: str, number: int) -> bytes:
    return blake2b(f"{kind}/{number}".encode(), digest_size=32).digest()


def _share(draw: bytes, at: int) -> float:
    """Return a number in [0, 1) from four bytes of a draw."""
    return int.from_bytes(draw[at : at + 4], "big") / 4_294_967_296


def user(shape: Shape, number: int, edition: int = 0) -> Record:
    """Return a user; ``edition`` selects one of its versions."""
    draw = _draw(f"user{edition}", number)
    return {
        "user_id": f"u{number}",
        "country": _COUNTRIES[draw[0] % len(_COUNTRIES)],
        "age_band": _AGES[draw[1] % len(_AGES)] if draw[2] > 20 else None,
        "subscription": _SUBSCRIPTIONS[draw[3] % len(_SUBSCRIPTIONS)],
        "created_at": shape.base_ms - 1 - int(_share(draw, 4) * 5 * _YEAR_MS),
        # One user in 20 has none; the Kafka timestamp orders its versions.
        "updated_at": None if number % 20 == 7 else shape.base_ms,
        "deleted": False,
    }


def song(shape: Shape, number: int, edition: int = 0) -> Record:
    """Return a song."""
    draw = _draw(f"song{edition}", number)
    first, second = draw[0] % len(_GENRES), draw[1] % len(_GENRES)
    return {
        "song_id": f"s{number}",
        "title": f"Song title {number} ({edition})" if edition else f"Song title {number}",
        "artist": f"Artist {number % 997}",
        "genres": [_GENRES[first]] if first == second else [_GENRES[first], _GENRES[second]],
        "duration_seconds": 90 + draw[2] if draw[3] > 10 else None,
        "released_at": shape.base_ms - 1 - int(_share(draw, 4) * 40 * _YEAR_MS),
        "updated_at": shape.base_ms,
        "deleted": False,
    }


def podcast(shape: Shape, number: int, edition: int = 0) -> Record:
    """Return a podcast."""
    draw = _draw(f"podcast{edition}", number)
    return {
        "podcast_id": f"p{number}",
        "title": f"Podcast {number} ({edition})" if edition else f"Podcast {number}",
        "publisher": f"Network {number % 31}" if draw[0] > 60 else None,
        "host": f"Host {number % 97}" if draw[1] > 60 else None,
        "categories": [_CATEGORIES[draw[2] % len(_CATEGORIES)]],
        "language": "en" if draw[3] > 100 else "it",
        "updated_at": shape.base_ms,
        "deleted": False,
    }


def interaction(shape: Shape, number: int) -> Record:
    """Return an interaction; its event_id begins with its number, see :func:`event_number`."""
    draw = _draw("interaction", number)
    listener = int(_share(draw, 0) * shape.users)
    anonymous = draw[4] < 5
    if draw[5] < 230:
        # Some songs are played far more often than others.
        item = f"s{int(_share(draw, 6) ** 2 * shape.songs)}"
    else:
        item = f"p{int(_share(draw, 6) * shape.podcasts)}"
    unknown_item = draw[10] == 0
    recommended = draw[11] < 40
    return {
        "event_id": f"{number:08x}-{draw[12:14].hex()}-4{draw[14:16].hex()[1:]}"
        f"-8{draw[16:18].hex()[1:]}-{draw[18:24].hex()}",
        "user_id": None if anonymous else f"u{listener}",
        "session_id": f"sess-{listener}-{number // 500_000}",
        "item_id": f"unknown-{number}" if unknown_item else item,
        "item_type": "song" if item[0] == "s" else "podcast",
        "event_type": _EVENT_TYPES[draw[24] % len(_EVENT_TYPES)],
        "played_ms": int(_share(draw, 25) * 300_000),
        "device": _DEVICES[draw[29] % len(_DEVICES)],
        "occurred_at": event_time(shape, number) - 400,
        "recommendation_id": f"RID-{number % 9973}" if recommended else None,
        "impression": [item, f"s{draw[30]}", f"p{draw[31]}"] if recommended else None,
    }


def enriched(contracts: Contracts, shape: Shape, number: int) -> Record:
    """Return an interaction as the product enriches it, with the first versions of its user and
    item."""
    record = interaction(shape, number)

    def attach(id: str | None) -> Record | None:
        for topic, make in (("users", user), ("songs", song), ("podcasts", podcast)):
            if id is not None and id[0] == topic[0]:
                at = int(id[1:])
                return content(contracts[topic], make(shape, at), f"{topic}/{at % 2}/{at}")
        return None

    item_id = record["item_id"]
    return record | {
        "origin": f"interactions/{number % 2}/{number // 2}",
        "published_at": event_time(shape, number),
        "user": attach(record["user_id"]),
        "item": None if item_id.startswith("unknown") else attach(item_id),
    }


def event_number(event_id: bytes) -> int:
    """Return the number of the interaction with this event_id; raises ValueError if it has none."""
    return int(event_id[:8], 16)


def event_time(shape: Shape, number: int) -> int:
    """Return the time of an interaction: within half an hour, an hour after the dimensions'."""
    return shape.base_ms + 3_600_000 + number * 1_800_000 // max(shape.events, 1)


def dimensions(shape: Shape) -> Iterator[Published]:
    """Yield all users, songs and podcasts with their later versions, in order of publication."""
    for topic, count, make in (
        ("users", shape.users, user),
        ("songs", shape.songs, song),
        ("podcasts", shape.podcasts, podcast),
    ):
        key = {"users": "user_id", "songs": "song_id", "podcasts": "podcast_id"}[topic]
        for number in range(count):
            record = make(shape, number)
            yield Published(topic, record[key], record)
        for number in range(count):
            for record in _later_versions(shape, number, make):
                yield Published(topic, record[key], record)


def _later_versions(shape: Shape, number: int, make: Any) -> Iterator[Record]:
    if number % _NEWER_EVERY == 1:
        yield make(shape, number, 1) | {"updated_at": shape.base_ms + 1000}
    if number % _OLDER_EVERY == 2:
        yield make(shape, number, 2) | {"updated_at": shape.base_ms - 1000}
    if number % _DELETED_EVERY == 3:
        yield make(shape, number) | {"updated_at": shape.base_ms + 2000, "deleted": True}


def interactions(shape: Shape) -> Iterator[Published]:
    """Yield all interactions, in order of publication."""
    for number in range(shape.events):
        record = interaction(shape, number)
        key = record["user_id"] or record["session_id"]
        yield Published("interactions", key, record)
