"""The data that every system reads: records by their number, the same at each run.

A record depends on the shape of the dataset and its own number only, so that any of them can be
made again alone. Pure: publishing is :mod:`benchmarks.publish`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

Record = dict[str, Any]

_COUNTRIES = ("IT", "GB", "US", "DE", "FR", "ES", "SE", "BR")
_AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
_SUBSCRIPTIONS = ("free", "premium", "family")
_GENRES = ("rock", "pop", "jazz", "classical", "j-rock", "ambient", "folk", "metal")
_CATEGORIES = ("News", "Science & Medicine", "Comedy", "Technology", "History")
_EVENT_TYPES = ("play", "complete", "skip", "like")
_DEVICES = ("ios", "android", "web", "speaker", None)
_YEAR_MS = 365 * 24 * 3_600_000

# How dimensions are published: every record once, then, so that the order of versions matters,
# some again: with a newer and with an older updated_at, and some as deleted.
_NEWER_EVERY = 50
_OLDER_EVERY = 70
_DELETED_EVERY = 500


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the dataset is; ``base_ms``: the moment that all its times are counted from."""

    events: int
    users: int
    songs: int
    podcasts: int
    base_ms: int

    @classmethod
    def of(cls, events: int, users: int, items: int, base_ms: int) -> Shape:
        """One podcast to ten songs, as in the catalogue of 110,000 items."""
        podcasts = items // 11
        return cls(events, users, items - podcasts, podcasts, base_ms)

    def as_json(self) -> dict[str, int]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Published:
    """A record with its topic, key and Kafka timestamp (milliseconds)."""

    topic: str
    key: str
    timestamp: int
    record: Record


def _draw(kind: str, number: int) -> bytes:
    return blake2b(f"{kind}/{number}".encode(), digest_size=32).digest()


def _share(draw: bytes, at: int) -> float:
    """A number in [0, 1) from four bytes of a draw."""
    return int.from_bytes(draw[at : at + 4], "big") / 4_294_967_296


def user(shape: Shape, number: int, edition: int = 0) -> Record:
    """A user; ``edition`` tells the versions of one user apart."""
    draw = _draw(f"user{edition}", number)
    return {
        "user_id": f"u{number}",
        "country": _COUNTRIES[draw[0] % len(_COUNTRIES)],
        "age_band": _AGES[draw[1] % len(_AGES)] if draw[2] > 20 else None,
        "subscription": _SUBSCRIPTIONS[draw[3] % len(_SUBSCRIPTIONS)],
        "created_at": shape.base_ms - 1 - int(_share(draw, 4) * 5 * _YEAR_MS),
        # One user in 20 has none: there the Kafka timestamp orders the versions.
        "updated_at": None if number % 20 == 7 else shape.base_ms,
        "deleted": False,
    }


def song(shape: Shape, number: int, edition: int = 0) -> Record:
    """A song."""
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
    """A podcast."""
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
    """An interaction; its event_id begins with its number, see :func:`event_number`."""
    draw = _draw("interaction", number)
    listener = int(_share(draw, 0) * shape.users)
    anonymous = draw[4] < 5
    if draw[5] < 230:
        # Some songs are played far more than others.
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


def enriched(shape: Shape, number: int) -> Record:
    """An interaction as the product hands it on, with its user and item in their first version."""
    record = interaction(shape, number)
    listener, item = record["user_id"], record["item_id"]
    return record | {
        "origin": f"interactions/{number % 2}/{number // 2}",
        "published_at": event_time(shape, number),
        "user": None if listener is None else _as_attached_user(user(shape, int(listener[1:]))),
        "item": None
        if item.startswith("unknown")
        else _as_attached_item(shape, item, int(item[1:])),
    }


def _as_attached_user(record: Record) -> Record:
    fields = ("country", "age_band", "subscription", "created_at")
    number = int(record["user_id"][1:])
    return {name: record[name] for name in fields} | {"origin": f"users/{number % 2}/{number}"}


def _as_attached_item(shape: Shape, item: str, number: int) -> Record:
    if item[0] == "s":
        record = song(shape, number)
        seconds = record["duration_seconds"]
        return {
            "item_type": "song",
            "title": record["title"],
            "creator": record["artist"],
            "genres": record["genres"],
            "duration_ms": None if seconds is None else seconds * 1_000,
            "language": None,
            "created_at": record["released_at"],
            "origin": f"songs/{number % 2}/{number}",
        }
    record = podcast(shape, number)
    return {
        "item_type": "podcast",
        "title": record["title"],
        "creator": record["host"] or record["publisher"],
        "genres": record["categories"],
        "duration_ms": None,
        "language": record["language"],
        "created_at": None,
        "origin": f"podcasts/{number % 2}/{number}",
    }


def event_number(event_id: bytes) -> int:
    """The number of the interaction with that event_id; raises ValueError when it is none."""
    return int(event_id[:8], 16)


def event_time(shape: Shape, number: int) -> int:
    """Kafka timestamp of an interaction: an hour after the dimensions, half an hour for all."""
    return shape.base_ms + 3_600_000 + number * 1_800_000 // max(shape.events, 1)


def dimensions(shape: Shape) -> Iterator[Published]:
    """All users, songs and podcasts with their later versions, in order of publication."""
    for topic, count, make in (
        ("users", shape.users, user),
        ("songs", shape.songs, song),
        ("podcasts", shape.podcasts, podcast),
    ):
        key = {"users": "user_id", "songs": "song_id", "podcasts": "podcast_id"}[topic]
        for number in range(count):
            record = make(shape, number)
            yield Published(topic, record[key], shape.base_ms, record)
        for number in range(count):
            for record in _later_versions(shape, number, make):
                yield Published(topic, record[key], shape.base_ms + 60_000, record)


def _later_versions(shape: Shape, number: int, make: Any) -> Iterator[Record]:
    if number % _NEWER_EVERY == 1:
        yield make(shape, number, 1) | {"updated_at": shape.base_ms + 1000}
    if number % _OLDER_EVERY == 2:
        yield make(shape, number, 2) | {"updated_at": shape.base_ms - 1000}
    if number % _DELETED_EVERY == 3:
        yield make(shape, number) | {"updated_at": shape.base_ms + 2000, "deleted": True}


def interactions(shape: Shape) -> Iterator[Published]:
    """All interactions, in order of publication."""
    for number in range(shape.events):
        record = interaction(shape, number)
        key = record["user_id"] or record["session_id"]
        yield Published("interactions", key, event_time(shape, number), record)
