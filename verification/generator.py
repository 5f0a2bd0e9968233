"""A generated hour of interactions: pure, seeded, streamed.

Users and items belong to genre clusters: a user prefers one or two of them and has a few
favourites, so a recommender can learn from the data. The same settings generate the same entries.
Memory grows with the scheduled updates and the last 30 s of late events, not with the number of
interactions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from connectors.clock import now_ms
from schemas.errors import TunemeshError
from verification.anomalies import MAX_LATE_MS, Anomalies, EvenShare, add_anomalies
from verification.entries import Entry, Kind, Scheduled, merge_scheduled
from verification.malformed import DIMENSION_REASONS

GENRES = (
    "rock", "electronic", "hip hop", "jazz", "metal", "folk",
    "classical", "soul", "reggae", "punk", "ambient", "latin",
)  # fmt: skip
CATEGORIES = (
    "Music Commentary", "Technology", "Comedy", "History", "True Crime", "Nature",
    "Arts", "Society & Culture", "Sports", "News", "Science & Medicine", "Languages",
)  # fmt: skip
_COUNTRIES = ("DE", "FR", "PL", "US", "BR", "JP", "NL", "ES", "GB", "AU")
_AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
_SUBSCRIPTIONS = ("free", "premium", "family")
_DEVICES = ("ios", "android", "web", "desktop", "speaker")
_LANGUAGES = ("en", "de", "es", "fr", "pt")
_MASK = (1 << 64) - 1
_DAY_MS = 86_400_000

PODCAST_SHARE = 0.15
ANONYMOUS_SHARE = 0.03
RECOMMENDED_SHARE = 0.05
# Updates and deletions belong to any hour; the shares below them are anomalies.
ITEM_UPDATE_SHARE = 0.01
USER_UPDATE_SHARE = 0.01
USER_DELETION_SHARE = 0.01
ITEM_DELETION_SHARE = 0.003
MISSING_ITEM_SHARE = 0.002
MISSING_USER_SHARE = 0.001
_SESSION_MS = 20 * 60_000
HOUR_MS = 3_600_000


def hour_ago_ms() -> int:
    """Return the time an hour ago, in milliseconds since the epoch."""
    return now_ms() - HOUR_MS


@dataclass(frozen=True, slots=True)
class Hour:
    """What to generate.

    ``interactions`` is the number of distinct valid events, without duplicates and malformed
    records. Sizes left at None follow from it. Times are milliseconds since the epoch; by default
    the hour ends now.
    """

    interactions: int
    start_ms: int = field(default_factory=hour_ago_ms)
    seed: int = 1
    anomalies: bool = False
    malformed_share: float = 0.01
    users: int | None = None
    songs: int | None = None
    podcasts: int | None = None
    span_ms: int = HOUR_MS

    def __post_init__(self) -> None:
        if self.interactions < 1:
            raise TunemeshError(f"--generate is {self.interactions}, expected 1 or more")
        if not 0 <= self.malformed_share < 1:
            raise TunemeshError(f"malformed_share is {self.malformed_share}, expected 0 up to 1")
        for name in ("users", "songs", "podcasts"):
            size = getattr(self, name)
            if size is not None and size < len(GENRES):
                raise TunemeshError(f"{name} is {size}, expected {len(GENRES)} or more")

    @property
    def user_count(self) -> int:
        """Number of users in the catalogue."""
        return self.users or min(50_000, max(24, self.interactions // 40))

    @property
    def song_count(self) -> int:
        """Number of songs in the catalogue."""
        return self.songs or min(100_000, max(120, self.interactions // 20))

    @property
    def podcast_count(self) -> int:
        """Number of podcasts in the catalogue."""
        return self.podcasts or min(10_000, max(36, self.interactions // 100))


def _mix(*parts: int) -> int:
    """Return a 64-bit hash of numbers (the finisher of splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = ((state ^ part) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 29)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 32
    return state


class GeneratedHour:
    """A source of entries; see :class:`Hour`."""

    def __init__(self, hour: Hour) -> None:
        self.hour = hour
        self._anomalies = Anomalies(hour.seed, hour.malformed_share) if hour.anomalies else None

    @property
    def description(self) -> str:
        """A description for the ledger and the terminal."""
        anomalies = "with" if self.hour.anomalies else "without"
        return (
            f"generated hour: {self.hour.interactions:,} events, seed {self.hour.seed},"
            f" {anomalies} anomalies"
        )

    @property
    def dimension_count(self) -> int:
        """Number of users and items, including malformed records."""
        catalogue = self.hour.user_count + self.hour.song_count + self.hour.podcast_count
        return catalogue + (3 * len(DIMENSION_REASONS) if self.hour.anomalies else 0)

    @property
    def stream_count(self) -> int:
        """Approximate number of records of ``stream``; exact without anomalies."""
        count = self.hour.interactions
        added = 0 if self._anomalies is None else self._anomalies.count(count)
        return count + added + len(self._schedule)

    # Catalogue

    def user(self, index: int, version: int = 0, at_ms: int | None = None) -> dict[str, Any]:
        """Return a user's record; a third of the users have no updated_at."""
        mixed = _mix(self.hour.seed, 1, index)
        created = self.hour.start_ms - _DAY_MS * (30 + mixed % 2000)
        record: dict[str, Any] = {
            "user_id": f"u{index + 1}",
            "country": _COUNTRIES[(mixed >> 8) % len(_COUNTRIES)],
            "age_band": _AGES[(mixed >> 16) % len(_AGES)],
            "subscription": _SUBSCRIPTIONS[((mixed >> 24) + version) % len(_SUBSCRIPTIONS)],
            "created_at": created,
        }
        if index % 3:
            record["updated_at"] = created if at_ms is None else at_ms
        return record

    def song(self, index: int, version: int = 0, at_ms: int | None = None) -> dict[str, Any]:
        """Return a song's record."""
        mixed = _mix(self.hour.seed, 2, index)
        genre = GENRES[index % len(GENRES)]
        second = GENRES[((mixed >> 8) + version) % len(GENRES)]
        record: dict[str, Any] = {
            "song_id": f"s{index + 1}",
            "title": f"{genre.title()} Song {index + 1}",
            "artist": None if mixed % 50 == 0 else f"Artist {index // 3 + 1}",
            "genres": [] if mixed % 40 == 1 else [genre] if genre == second else [genre, second],
            "duration_seconds": 120 + (mixed >> 16) % 300,
            "released_at": self.hour.start_ms - _DAY_MS * (1 + (mixed >> 24) % 15_000),
            "updated_at": at_ms or self.hour.start_ms - _DAY_MS * (1 + (mixed >> 32) % 60),
        }
        if version:
            record["genres"] = [*record["genres"], f"edition {version}"]
        return record

    def podcast(self, index: int, version: int = 0, at_ms: int | None = None) -> dict[str, Any]:
        """Return a podcast's record."""
        mixed = _mix(self.hour.seed, 3, index)
        category = CATEGORIES[index % len(CATEGORIES)]
        record: dict[str, Any] = {
            "podcast_id": f"p{index + 1}",
            "title": f"{category} Talk {index + 1}",
            "publisher": f"Network {index % 7 + 1}" if mixed % 3 else None,
            "host": f"Host {index + 1}" if (mixed >> 8) % 2 else None,
            "categories": [category],
            "language": _LANGUAGES[(mixed >> 16) % len(_LANGUAGES)],
            "updated_at": at_ms or self.hour.start_ms - _DAY_MS * (1 + (mixed >> 24) % 60),
        }
        if version:
            record["categories"] = [category, f"edition {version}"]
        return record

    def dimensions(self) -> Iterator[Entry]:
        """Yield users, songs and podcasts; with anomalies, malformed records after each domain."""
        for domain, count, record in self._catalogue():
            for index in range(count):
                yield Entry(domain, record(index), Kind.VERSION)
            if self.hour.anomalies:
                for turn, reason in enumerate(DIMENSION_REASONS):
                    base = record(turn % count)
                    yield Entry(domain, base, Kind.MALFORMED, reason=reason, variant=turn)

    def _catalogue(self) -> tuple[tuple[str, int, Any], ...]:
        return (
            ("users", self.hour.user_count, self.user),
            ("songs", self.hour.song_count, self.song),
            ("podcasts", self.hour.podcast_count, self.podcast),
        )

    # Updates and deletions

    @cached_property
    def _schedule(self) -> list[Scheduled]:
        """Updates and deletions with their times, in the order of sending."""
        chance = random.Random(f"{self.hour.seed} schedule")
        scheduled: list[Scheduled] = []

        def at(at_ms: int, entry: Entry) -> None:
            scheduled.append(Scheduled(at_ms, len(scheduled), entry))

        for domain, count, record in self._catalogue():
            users = domain == "users"
            update_share = USER_UPDATE_SHARE if users else ITEM_UPDATE_SHARE
            delete_share = USER_DELETION_SHARE if users else ITEM_DELETION_SHARE
            updates = max(2, int(count * update_share))
            deletions = max(2, int(count * delete_share))
            chosen = chance.sample(range(count), updates + deletions)
            for turn, index in enumerate(chosen[:updates]):
                at_ms = self._random_time(chance)
                at(at_ms, Entry(domain, record(index, 1, at_ms), Kind.VERSION))
                if self.hour.anomalies and turn % 2 == 0:
                    # An older change that arrives after the newer one.
                    late = record(index, 2, at_ms - chance.randrange(1_000, 60_000))
                    at(at_ms + chance.randrange(1, MAX_LATE_MS), Entry(domain, late, Kind.VERSION))
            for turn, index in enumerate(chosen[updates:]):
                self._delete(domain, record(index), index, turn, chance, at)
        scheduled.sort()
        return scheduled

    def _delete(
        self,
        domain: str,
        record: dict[str, Any],
        index: int,
        turn: int,
        chance: random.Random,
        at: Any,
    ) -> None:
        at_ms = self._random_time(chance)
        if turn % 2:
            # A tombstone has no updated_at: it is ordered by its Kafka timestamp.
            at(at_ms, Entry(domain, None, Kind.VERSION, key=next(iter(record.values()))))
            return

        def updated(time_ms: int, **fields: Any) -> Entry:
            if "updated_at" in record:
                fields["updated_at"] = time_ms
            return Entry(domain, {**record, **fields}, Kind.VERSION)

        at(at_ms, updated(at_ms, deleted=True))
        if self.hour.anomalies and turn % 4 == 0:
            back_ms = at_ms + self.hour.span_ms // 20
            at(back_ms, updated(back_ms))

    def _random_time(self, chance: random.Random) -> int:
        span = self.hour.span_ms
        return self.hour.start_ms + int(span * (0.1 + 0.8 * chance.random()))

    # Interactions

    def stream(self) -> Iterator[Entry]:
        """Yield interactions, with the updates and deletions between them."""
        return merge_scheduled(self._lines(), self._schedule)

    def _lines(self) -> Iterator[Entry]:
        """Yield interactions in order, late and duplicate ones at their later position."""
        entries = (Entry("interactions", event, Kind.VALID) for event in self._events())
        return entries if self._anomalies is None else add_anomalies(entries, self._anomalies)

    def _events(self) -> Iterator[dict[str, Any]]:
        """Yield the distinct valid events by time."""
        hour = self.hour
        chance = random.Random(f"{hour.seed} events")
        missing_item = EvenShare(MISSING_ITEM_SHARE if hour.anomalies else 0, chance.random())
        missing_user = EvenShare(MISSING_USER_SHARE if hour.anomalies else 0, chance.random())
        slot = hour.span_ms / hour.interactions
        # Another start or seed generates other event ids.
        prefix = f"{_mix(hour.seed, hour.start_ms, hour.interactions):016x}"
        for number in range(hour.interactions):
            at = hour.start_ms + int((number + chance.random()) * slot)
            # Few users play much, many play little.
            user = int(hour.user_count * chance.random() ** 2)
            session = _mix(hour.seed, 4, user, (at + user * 7_919) // _SESSION_MS)
            item, kind, length_ms, is_favourite = self._choice(chance, user)
            event: dict[str, Any] = {
                "event_id": _uuid(prefix, number),
                "user_id": f"u{user + 1}",
                "session_id": f"sess-{session:016x}",
                "item_id": item,
                "item_type": kind,
            }
            if missing_item():
                event["item_id"] = f"{item[0]}9{number:09d}"
            if missing_user():
                event["user_id"] = f"u9{number:09d}"
            elif chance.random() < ANONYMOUS_SHARE:
                event["user_id"] = None
                event["session_id"] = f"anon-{session:016x}"
            event["event_type"], event["played_ms"] = _listening(chance, is_favourite, length_ms)
            event["device"] = _DEVICES[(user + (chance.random() < 0.2)) % len(_DEVICES)]
            event["occurred_at"] = at
            if chance.random() < RECOMMENDED_SHARE:
                event["recommendation_id"] = f"RID-{_mix(hour.seed, 5, number):016x}"
                others = [self._choice(chance, user)[0] for _ in range(3)]
                event["impression"] = [item, *(other for other in others if other != item)]
            yield event

    def _choice(self, chance: random.Random, user: int) -> tuple[str, str, int, bool]:
        """Choose an item for a user: id, type, milliseconds, whether it is a favourite."""
        podcast = chance.random() < PODCAST_SHARE
        count = self.hour.podcast_count if podcast else self.hour.song_count
        mixed = _mix(self.hour.seed, 6, user)
        first = mixed % len(GENRES)
        second = (mixed >> 8) % len(GENRES)
        taste = chance.random()
        rank = chance.random()
        per_genre = count // len(GENRES)
        is_favourite = taste < 0.35
        if is_favourite:
            # Five favourites per user, from the more popular half of the cluster.
            favourite = _mix(user, int(rank * 5), 7) % max(1, per_genre // 2)
            index = first + len(GENRES) * favourite
        else:
            genre = first if taste < 0.75 else second if taste < 0.92 else int(rank * 1e6)
            popular = int(per_genre * rank**3)
            index = genre % len(GENRES) + len(GENRES) * popular
        if podcast:
            return f"p{index + 1}", "podcast", 1_800_000, is_favourite
        length = 120 + (_mix(self.hour.seed, 2, index) >> 16) % 300
        return f"s{index + 1}", "song", length * 1000, is_favourite


def _uuid(prefix: str, number: int) -> str:
    return f"{prefix[:8]}-{prefix[8:12]}-8{prefix[13:]}-a000-{number:012x}"


def _listening(chance: random.Random, is_favourite: bool, length_ms: int) -> tuple[str, int]:
    """Choose event type and played milliseconds: favourites are completed and liked more often."""
    drawn = chance.random()
    part = chance.random()
    if drawn < (0.15 if is_favourite else 0.04):
        return "like", 0
    if drawn < (0.17 if is_favourite else 0.24):
        return "skip", int(length_ms * 0.15 * part)
    if drawn < (0.65 if is_favourite else 0.50):
        return "complete", length_ms
    return "play", int(length_ms * (0.2 + 0.7 * part))
