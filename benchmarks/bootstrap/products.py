"""Generates the data products of the benchmark, the same in each run.

They have the layout of `connectors.products`: versions/<version>/..., a manifest and current.json.
1% of the rows have values that are rejected or escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.products.columns import columns_of
from connectors.products.location import CURRENT, MANIFEST
from connectors.products.manifest import Current, Manifest, ProductFile
from schemas.model import load_contracts

VERSION = "20261123T000000Z-00000000"
START_MS = 1_790_000_000_000
UNTIL_MS = START_MS + 60 * 86_400_000
DAYS = 60
BATCH_ROWS = 500_000
GENRES = ("rock", "pop", "jazz", "folk", "ambient", "hip hop", "classical", "talk", "news", "soul")


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers of rows: users are 5% of the interactions, items 10%."""

    interactions: int

    @property
    def users(self) -> int:
        """500k of 10M."""
        return self.interactions // 20

    @property
    def songs(self) -> int:
        """900k of 10M."""
        return self.interactions * 9 // 100

    @property
    def podcasts(self) -> int:
        """100k of 10M."""
        return self.interactions // 100

    @property
    def rows(self) -> int:
        """Rows of all products."""
        return self.interactions + self.users + self.songs + self.podcasts


def create_products(folder: Path, size: Size) -> dict[str, Path]:
    """Write the products below a folder, unless they exist; returns their locations by contract."""
    makers: dict[str, tuple[int, Callable[[Any], Any]]] = {
        "users": (size.users, _users),
        "songs": (size.songs, _songs),
        "podcasts": (size.podcasts, _podcasts),
        "interactions": (size.interactions, lambda n: _interactions(n, size)),
    }
    locations = {}
    for name, (rows, maker) in makers.items():
        location = folder / f"{size.interactions}" / name
        if not (location / CURRENT).exists():
            _write(location, name, rows, maker)
        locations[name] = location
    return locations


def _write(location: Path, name: str, rows: int, maker: Callable[[Any], Any]) -> None:
    version = location / "versions" / VERSION
    version.mkdir(parents=True, exist_ok=True)
    files: list[ProductFile] = []
    names: set[str] = set()
    for number, first in enumerate(range(0, rows, 4 * BATCH_ROWS)):
        path = version / f"part-{number:05}.parquet"
        writer: Any = None
        last = min(rows, first + 4 * BATCH_ROWS)
        for table in _batches(first, last, maker):
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
                names = set(table.schema.names)
            writer.write_table(table, row_group_size=BATCH_ROWS // 2)
        writer.close()
        files.append(ProductFile(path.name, last - first, path.stat().st_size, ""))
    contract = load_contracts()[name]
    columns = tuple(column for column in columns_of(contract) if column.name in names)
    manifest = Manifest(
        name, contract.newest.number, VERSION, START_MS, None, rows, columns, tuple(files)
    )
    (version / MANIFEST).write_bytes(manifest.to_json())
    (location / CURRENT).write_bytes(Current.to_json(VERSION, ()))


def _batches(first: int, last: int, maker: Callable[[Any], Any]) -> Iterator[Any]:
    for start in range(first, last, BATCH_ROWS):
        yield maker(np.arange(start, min(last, start + BATCH_ROWS), dtype=np.int64))


def _hash(numbers: Any, salt: int) -> Any:
    """Return evenly distributed hashes of numbers (splitmix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _below(numbers: Any, salt: int, bound: int) -> Any:
    return (_hash(numbers, salt) % np.uint64(bound)).astype(np.int64)


def _texts(prefix: str, numbers: Any) -> Any:
    digits = pc.cast(pa.array(numbers), pa.string())
    return pc.binary_join_element_wise(pa.scalar(prefix), digits, "")


def _choice(numbers: Any, salt: int, values: tuple[str | None, ...]) -> Any:
    picked = pa.array(_below(numbers, salt, len(values)))
    return pc.take(pa.array(values, pa.string()), picked)


def _where(mask: Any, value: Any, otherwise: Any) -> Any:
    return pc.if_else(pa.array(mask), value, otherwise)


def _times(numbers: Any) -> Any:
    return pc.cast(pa.array(numbers), pa.timestamp("ms", tz="UTC"))


def _lists(numbers: Any, salt: int) -> Any:
    """Return lists of up to three genres; a quarter of them are empty."""
    sizes = _below(numbers, salt, 4).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
    picked = _below(np.arange(offsets[-1], dtype=np.int64) + numbers[0], salt + 1, len(GENRES))
    return pa.ListArray.from_arrays(pa.array(offsets), pc.take(pa.array(GENRES), pa.array(picked)))


def _users(n: Any) -> Any:
    return pa.table(
        {
            "user_id": _texts("user-", n),
            "country": _choice(n, 1, ("DE", "FR", "GB", "US", "BR", None)),
            "age_band": _choice(n, 2, ("18-24", "25-34", "35-44", "45-54", None)),
            "subscription": _choice(n, 3, ("free", "premium", "family")),
            "created_at": _times(START_MS - _below(n, 4, 10**11)),
            "updated_at": _times(START_MS - _below(n, 5, 10**9)),
            "deleted": pa.array(np.zeros(len(n), dtype=bool)),
        }
    )


def _titles(n: Any, word: str) -> Any:
    titles = _texts(f"{word} number ", n)
    titles = _where(n % 50 == 7, _texts(f"The {word}, part ", n), titles)
    return _where(n % 200 == 9, _texts(f'"{word}" and \\others, ', n), titles)


def _songs(n: Any) -> Any:
    # 0.2% are older or newer versions of another song.
    ids = np.where(n % 500 == 11, n // 2, n)
    return pa.table(
        {
            "song_id": _where(n % 1000 == 13, "ITEM_ID", _texts("song-", ids)),
            "title": _titles(n, "Song"),
            "artist": _texts("Artist ", _below(n, 6, 50_000)),
            "genres": _lists(n, 20),
            "duration_seconds": pa.array((90 + _below(n, 7, 400)).astype(np.int32)),
            "released_at": _times(START_MS - _below(n, 8, 10**12)),
            "updated_at": _times(START_MS - _below(n, 9, 10**9)),
            "deleted": pa.array(np.zeros(len(n), dtype=bool)),
        }
    )


def _podcasts(n: Any) -> Any:
    nothing = pa.scalar(None, pa.string())
    return pa.table(
        {
            "podcast_id": _texts("podcast-", n),
            "title": _titles(n, "Podcast"),
            "publisher": _texts("Network ", _below(n, 10, 500)),
            "host": _where(n % 3 == 0, nothing, _texts("Host ", _below(n, 11, 9000))),
            "categories": _lists(n, 30),
            "language": _choice(n, 12, ("de", "en", "fr", None)),
            "updated_at": _times(START_MS - _below(n, 13, 10**9)),
            "deleted": pa.array(np.zeros(len(n), dtype=bool)),
        }
    )


def _interactions(n: Any, size: Size) -> Any:
    # Squared, so that some items are played more often than others; 1% of the users are unknown.
    share = (_below(n, 40, 1 << 20) / (1 << 20)) ** 2
    users = (_below(n, 41, 1 << 20) / (1 << 20) * size.users * 1.01).astype(np.int64)
    is_podcast = _below(n, 42, 10) == 0
    songs = _texts("song-", (share * size.songs).astype(np.int64))
    podcasts = _texts("podcast-", (share * size.podcasts).astype(np.int64))
    occurred = START_MS + n * (DAYS * 86_400_000 // size.interactions + 1)
    nothing = pa.scalar(None, pa.string())
    recommended = _texts("RID-", _below(n, 43, 10**9))
    return pa.table(
        {
            "event_id": _texts("event-000000000000-", n),
            "user_id": _where(n % 50 == 3, nothing, _texts("user-", users)),
            "session_id": _texts("session-", n // 7),
            "item_id": _where(n % 1000 == 5, "", _where(is_podcast, podcasts, songs)),
            "item_type": _where(is_podcast, "podcast", "song"),
            "event_type": _choice(n, 44, ("play", "play", "complete", "skip", "like")),
            "played_ms": pa.array(_below(n, 45, 300_000)),
            "device": _choice(n, 46, ("ios", "android", "web", None)),
            "occurred_at": _times(occurred),
            "recommendation_id": _where(n % 5 == 0, recommended, nothing),
            "impression": _impressions(n),
            "published_at": _times(occurred + _below(n, 47, 60_000)),
        }
    )


def _impressions(n: Any) -> Any:
    """Return five items for 10% of the interactions, NULL for the others."""
    shown = n % 10 == 0
    offsets = np.concatenate(([0], np.cumsum(np.where(shown, 5, 0)))).astype(np.int32)
    ids = _texts("song-", _below(np.arange(offsets[-1], dtype=np.int64) + n[0], 48, 1000))
    return pa.ListArray.from_arrays(pa.array(offsets), ids, mask=pa.array(~shown))
