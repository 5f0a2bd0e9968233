"""The bootstrap in the minicluster, on S3: one run with every rule and every reason in it.

What it writes must be what the stream would send of the same records: the reference is made of
`schemas.projection` and of the requests of `connectors.personalize`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from batch.bootstrap.rules import Reason
from batch.bootstrap.settings import Window
from batch.personalize_schemas import columns, interactions_schema, items_schema, users_schema
from connectors.aws.sdk import sdk_client
from connectors.delivery import Rejected
from connectors.personalize.datasets import (
    ITEMS,
    USERS,
    Dataset,
    DatasetRecord,
    DatasetRequests,
    dataset_fields,
)
from connectors.personalize.requests import EventRequests
from deploy.local import bootstrap, jars, platform
from deploy.local.settings import PROJECT, REGION, LocalSettings
from deploy.package.jar import merge_jars, provided_entries
from schemas.model import Contract, Contracts, load_contracts
from schemas.projection import project_item, project_user, record_id
from schemas.rules import FEBRUARY_1970_MS
from tests.flink import products
from tests.support.ports import free_port

BUCKET = "mesh"
NOW_MS = 1_790_000_000_123
SINCE_MS = NOW_MS - 1_000
UNTIL_MS = NOW_MS + 1_000_000
STRANGE = 'A "quoted" \\ part, of | it\u00e9\u4e2d'

Row = dict[str, Any]
Rows = dict[str, list[Row]]


def user(user_id: str | None, **changes: Any) -> Row:
    return {
        "user_id": user_id,
        "country": "DE",
        "age_band": "25-34",
        "subscription": "free",
        "created_at": NOW_MS - 999,
        "updated_at": NOW_MS,
        "deleted": False,
        **changes,
    }


def song(song_id: str | None, **changes: Any) -> Row:
    return {
        "song_id": song_id,
        "title": f"Title of {song_id}",
        "artist": "Somebody",
        "genres": ["rock", "pop"],
        "duration_seconds": 200,
        "released_at": NOW_MS,
        "updated_at": NOW_MS,
        "deleted": False,
        **changes,
    }


def podcast(podcast_id: str, **changes: Any) -> Row:
    return {
        "podcast_id": podcast_id,
        "title": "Talks",
        "publisher": "Network",
        "host": None,
        "categories": [],
        "language": "de",
        "updated_at": NOW_MS,
        "deleted": False,
        **changes,
    }


def event(number: int, **changes: Any) -> Row:
    return {
        "event_id": f"event-{number}",
        "user_id": f"user-{number % 40}",
        "session_id": "session",
        "item_id": f"song-{number % 30}",
        "item_type": "song",
        "event_type": ("play", "complete", "like")[number % 3],
        "played_ms": number * 170 - 400,
        "device": "ios",
        "occurred_at": NOW_MS + number,
        "recommendation_id": None,
        "impression": None,
        "published_at": NOW_MS + number + 5,
        **changes,
    }


GOOD: Rows = {
    "users": [
        *(user(f"user-{n}") for n in range(40)),
        user("user-strange", country=STRANGE, age_band="", subscription=None, created_at=None),
        user("user-old", created_at=-5_001),
        user("u" * 256, country="c" * 1000),
    ],
    "songs": [
        *(song(f"song-{n}") for n in range(30)),
        song("song,with\\comma", title=STRANGE, genres=[STRANGE, "", "two"], artist=""),
        song("song-bare", artist=None, genres=[], duration_seconds=None, released_at=None),
        song("song-newest", title="new", updated_at=NOW_MS + 1),
        song("song-dated", title="dated", updated_at=1),
        song("song-lines", title="two\r\nlines"),
        song("item-moved", title="was a song", updated_at=NOW_MS - 5),
    ],
    "podcasts": [
        podcast("podcast-1", host="Host", categories=["science"]),
        podcast("podcast-2", host=""),
        podcast("podcast-3", host=None, publisher=None, language=None),
    ],
    "audiobooks": [
        {"isbn": "978-1", "name": "Book", "shelves": ["crime"], "narrator": "N", "author": "A",
         "minutes_in_ms": 3_600_000, "withdrawn": False},
        {"isbn": "978-2", "name": "Other", "shelves": [], "narrator": None, "author": "A",
         "minutes_in_ms": None, "withdrawn": False},
    ],
    "interactions": [
        *(event(n) for n in range(1000)),
        event(2001, item_id="podcast-1", item_type="podcast", device=None),
        event(2002, item_id="978-1", item_type="audiobook", played_ms=1_800_000),
        event(2003, item_id="unknown", user_id="nobody", played_ms=None),
        event(2004, user_id="user-strange", item_id="song,with\\comma", device=STRANGE),
        event(2005, recommendation_id="r" * 40, impression=["song-1", 'odd,"\\ one']),
        event(2006, impression=[], played_ms=10**9),
        event(2007, occurred_at=FEBRUARY_1970_MS, item_type=""),
        # Half of the fourth digit: 0.00005 and 0.03125 are rounded up.
        event(2008, played_ms=10),
        event(2009, played_ms=6_250),
        event(2010, occurred_at=NOW_MS + 86_400_000, published_at=NOW_MS),
        event(2011, published_at=UNTIL_MS - 1),
        event(2012, published_at=SINCE_MS),
    ],
}  # fmt: skip

BAD: dict[str, list[tuple[str, Row]]] = {
    "users": [
        (Reason.MISSING_ID, user("")),
        (Reason.MISSING_ID, user(None)),
        (Reason.INVALID_ID, user("u" * 257)),
        (Reason.INVALID_ID, user("\x01ctrl")),
        (Reason.INVALID_ID, user("two\nlines")),
        (Reason.TOO_LONG, user("user-long", subscription="s" * 1001)),
        (Reason.RESERVED_WORD, user("user-word", country="USER_ID")),
        (Reason.RESERVED_WORD, user("TIMESTAMP")),
        (Reason.DELETED, user("user-deleted", deleted=True)),
        (Reason.INVALID_VALUE, user("user-seconds", created_at=NOW_MS // 1000)),
        (Reason.INVALID_VALUE, user("user-version", updated_at=NOW_MS // 1000)),
        (Reason.SUPERSEDED, user("user-3", country="FR", updated_at=NOW_MS - 1)),
    ],
    "songs": [
        (Reason.TOO_LONG, song("song-long", title="t" * 1001)),
        (Reason.TOO_LONG, song("song-genres", genres=["g" * 500, "h" * 500])),
        (Reason.RESERVED_WORD, song("song-word", genres=["EVENT_TYPE"])),
        (Reason.INVALID_ID, song("s\r")),
        (Reason.INVALID_VALUE, song("song-micros", updated_at=NOW_MS * 1000)),
        (Reason.DELETED, song("song-deleted", deleted=True)),
        (Reason.SUPERSEDED, song("song-newest", title="old")),
        (Reason.SUPERSEDED, song("song-dated", title="undated", updated_at=None)),
        (Reason.SUPERSEDED, song("item-moved", title="older still", updated_at=NOW_MS - 9)),
    ],
    "podcasts": [(Reason.MISSING_ID, podcast(""))],
    "audiobooks": [(Reason.DELETED, {"isbn": "978-3", "name": "Gone", "withdrawn": True})],
    "interactions": [
        (Reason.MISSING_ID, event(3001, item_id="")),
        (Reason.MISSING_ID, event(3002, event_id=None)),
        (Reason.NO_USER, event(3003, user_id=None)),
        (Reason.INVALID_ID, event(3004, user_id="u" * 257)),
        (Reason.INVALID_ID, event(3005, item_id="two\nlines")),
        (Reason.INVALID_ID, event(3006, recommendation_id="r" * 41)),
        (Reason.INVALID_ID, event(3007, recommendation_id="")),
        (Reason.INVALID_VALUE, event(3008, event_type="")),
        (Reason.INVALID_VALUE, event(3009, occurred_at=-1)),
        (Reason.INVALID_VALUE, event(3018, occurred_at=NOW_MS // 1000)),
        (Reason.INVALID_VALUE, event(3010, occurred_at=None)),
        (Reason.FUTURE_TIMESTAMP, event(3011, occurred_at=NOW_MS + 86_400_001,
                                        published_at=NOW_MS)),
        (Reason.INVALID_IMPRESSION, event(3012, impression=["song-1"] * 26)),
        (Reason.INVALID_IMPRESSION, event(3013, impression=["song-1", ""])),
        (Reason.INVALID_IMPRESSION, event(3014, impression=["i" * 257])),
        (Reason.INVALID_IMPRESSION, event(3019, impression=["a|b"])),
        (Reason.TOO_LONG, event(3015, device="d" * 1001)),
        (Reason.RESERVED_WORD, event(3016, event_type="ITEM_ID")),
        (Reason.RESERVED_WORD, event(3017, device="IMPRESSION")),
    ],
}  # fmt: skip

EARLIER = [event(4003, published_at=SINCE_MS - 1), event(4004, published_at=1)]
LATER = [event(4001, published_at=UNTIL_MS), event(4002, published_at=UNTIL_MS + 1)]
"""What the stream delivers."""


class Bootstrapped:
    """One run: where it has put things, and what it said."""

    def __init__(self, s3: Any, prefix: str) -> None:
        self._s3 = s3
        self._prefix = prefix

    def objects(self, folder: str) -> dict[str, bytes]:
        """Objects below a folder of the run, by name."""
        found = self._s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self._prefix}/{folder}")
        return {
            entry["Key"].removeprefix(f"{self._prefix}/"): self._s3.get_object(
                Bucket=BUCKET, Key=entry["Key"]
            )["Body"].read()
            for entry in found.get("Contents", ())
        }

    def csv(self, dataset: str) -> list[Row]:
        """The rows of all files of a dataset, read as Personalize does; each has its header."""
        rows: list[Row] = []
        for name, content in self.objects(f"{dataset}/").items():
            assert name.startswith(f"{dataset}/part-"), name
            assert name.endswith(".csv"), name
            text = io.StringIO(content.decode(), newline="")
            reader = csv.reader(text, doublequote=False, escapechar="\\", strict=True)
            header = next(reader)
            assert content.startswith((",".join(header) + "\n").encode())
            rows += (dict(zip(header, values, strict=True)) for values in reader)
        return rows

    @property
    def report(self) -> Row:
        """The report."""
        found: Row = json.loads(self.objects("report.json")["report.json"])
        return found

    def rejected(self) -> list[Row]:
        """All rejected rows."""
        return [
            json.loads(line)
            for content in self.objects("rejected/").values()
            for line in content.splitlines()
        ]


@pytest.fixture(scope="module")
def contracts(audiobooks: Path) -> Contracts:
    return load_contracts((PROJECT / "schemas" / "contracts", audiobooks))


@pytest.fixture(scope="module")
def aws(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]
) -> Iterator[LocalSettings]:
    """The platform's AWS on a port of its own."""
    home = tmp_path_factory.mktemp("aws")
    own = {**environ, "TUNEMESH_AWS_PORT": str(free_port()), "TUNEMESH_HOME": str(home)}
    settings = LocalSettings.from_environment(own)
    try:
        platform.up(settings, ["aws"], environ=own)
        yield settings
    finally:
        platform.down(settings)


@pytest.fixture(scope="module")
def bootstrapped(
    aws: LocalSettings,
    contracts: Contracts,
    environ: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bootstrapped:
    """All rows, good, bad, earlier and later ones, through `python -m batch.bootstrap`."""
    s3 = sdk_client("s3", REGION, aws.aws.url)
    s3.create_bucket(Bucket=BUCKET)
    locations = {}
    for name, good in GOOD.items():
        rows = [*good, *(row for _, row in BAD[name])]
        if name == "interactions":
            rows += [*EARLIER, *LATER]
            files = {
                "event_day=2026-09-21/part-00000.parquet": rows[::2],
                "event_day=2026-09-22/part-00000.parquet": rows[1::2],
            }
        else:
            files = {"part-00000.parquet": rows}
        compression = "snappy" if name == "songs" else "zstd"
        contract = contracts[name]
        locations[name] = products.publish(s3, BUCKET, contract, files, compression=compression)
        # Beside the manifest's files, as an export that died leaves it.
        stray = locations[name].removeprefix(f"s3://{BUCKET}/")
        s3.put_object(
            Bucket=BUCKET,
            Key=f"{stray}/versions/20261123T142500Z-1a2b3c4d/part-00099.parquet",
            Body=products.parquet(contract, good[:1], "zstd"),
        )
    # As on the service: the jars as one, that of the package.
    jar = tmp_path_factory.mktemp("jar") / "pyflink-dependencies.jar"
    jar.write_bytes(merge_jars(jars.paths("parquet", aws.jar_cache), provided_entries()))
    window = Window(SINCE_MS, UNTIL_MS)
    output = f"s3://{BUCKET}/bootstrap"
    request = bootstrap.Request(output, "first", locations, window, jars=(jar,))
    bootstrap.run_in_process(aws, request, environ)
    return Bootstrapped(s3, "bootstrap/first")


# The reference: what the stream sends.


def expected_records(
    contracts: Contracts, dataset: Dataset, id_column: str, kept: Mapping[str, tuple[Contract, Row]]
) -> dict[str, Row]:
    """Rows by id, from the properties that PutUsers or PutItems would get."""
    fields = dataset_fields(contracts, dataset)
    requests = DatasetRequests(dataset, fields)
    rows = {}
    for identity, (contract, record) in kept.items():
        projection = project_user if dataset is USERS else project_item
        entry = requests.convert(
            DatasetRecord(identity, (0, 0), projection(contract, _complete(record, contract), ""))
        )
        assert not isinstance(entry, Rejected), entry
        sent = json.loads(json.loads(entry.text).get("properties", "{}"))
        rows[identity] = {
            id_column: identity,
            **{f.column: _text(sent.get(f.key, "")) for f in fields},
        }
    return rows


def _complete(record: Row, contract: Contract) -> Row:
    return {**dict.fromkeys(contract.newest.field_names), **record}


def _text(value: Any) -> str:
    """A value as CSV has it: a line break is a space there."""
    return str(value).replace("\r", " ").replace("\n", " ")


def newest(contracts: Contracts, names: list[str]) -> dict[str, tuple[Contract, Row]]:
    """The good rows of these products that are not older versions, by id."""
    kept = {}
    for name in names:
        for row in GOOD[name]:
            if row.get("title") != "was a song":
                kept[record_id(contracts[name], row)] = (contracts[name], row)
    kept["item-moved"] = (contracts["songs"], GOOD["songs"][-1])
    return kept


def test_users_and_items_are_what_the_stream_would_put(
    bootstrapped: Bootstrapped, contracts: Contracts
) -> None:
    """All item domains are in one dataset, the one of a new contract folder too."""
    users = newest(contracts, ["users"])
    del users["item-moved"]
    items = newest(contracts, ["songs", "podcasts", "audiobooks"])
    for dataset, kind, key, kept in (
        ("users", USERS, "USER_ID", users),
        ("items", ITEMS, "ITEM_ID", items),
    ):
        rows = bootstrapped.csv(dataset)
        assert {row[key]: row for row in rows} == expected_records(contracts, kind, key, kept)
        assert len(rows) == len(kept)


def test_interactions_are_what_the_stream_would_put(
    bootstrapped: Bootstrapped, contracts: Contracts
) -> None:
    """Each good interaction once, with its user's and item's fields and its share played."""
    users = newest(contracts, ["users"])
    items = newest(contracts, ["songs", "podcasts", "audiobooks"])
    requests = EventRequests()
    expected = []
    for row in GOOD["interactions"]:
        owner, item = users.get(row["user_id"]), items.get(row["item_id"])
        enriched = {
            **row,
            "user": owner and project_user(owner[0], _complete(owner[1], owner[0]), ""),
            "item": item and project_item(item[0], _complete(item[1], item[0]), ""),
        }
        converted = requests.convert(enriched)
        assert not isinstance(converted, Rejected), converted
        sent = json.loads(converted.text)
        properties = json.loads(sent.get("properties", "{}"))
        value = sent.get("eventValue")
        expected.append(
            {
                "USER_ID": row["user_id"],
                "ITEM_ID": sent["itemId"],
                "TIMESTAMP": str(int(sent["sentAt"])),
                "EVENT_TYPE": sent["eventType"],
                "EVENT_VALUE": "" if value is None else f"{value:.4f}",
                "RECOMMENDATION_ID": sent.get("recommendationId", ""),
                "IMPRESSION": "|".join(sent.get("impression", ())),
                "ITEM_TYPE": properties.get("itemType", ""),
                "DEVICE": properties.get("device", ""),
                "COUNTRY": properties.get("country", ""),
                "SUBSCRIPTION": properties.get("subscription", ""),
                "GENRE": properties.get("genre", ""),
            }
        )

    def as_tuples(rows: list[Row]) -> list[tuple[str, ...]]:
        return sorted(tuple(row.values()) for row in rows)

    assert as_tuples(bootstrapped.csv("interactions")) == as_tuples(expected)


def test_the_columns_are_those_of_the_schemas(
    bootstrapped: Bootstrapped, contracts: Contracts
) -> None:
    """In their order, as an import demands it."""
    for dataset, schema in (
        ("users", users_schema(contracts)),
        ("items", items_schema(contracts)),
        ("interactions", interactions_schema(contracts)),
    ):
        assert tuple(bootstrapped.csv(dataset)[0]) == columns(schema)


def test_each_bad_row_is_rejected_with_its_reason(bootstrapped: Bootstrapped) -> None:
    """In full in rejected/, counted in the report; there is a row for every reason."""
    keys = {"users": "user_id", "songs": "song_id", "podcasts": "podcast_id",
            "audiobooks": "isbn", "interactions": "event_id"}  # fmt: skip
    expected = sorted(
        (name, reason, row[keys[name]] or "") for name, bad in BAD.items() for reason, row in bad
    )
    found = bootstrapped.rejected()
    assert sorted((r["product"], r["reason"], r["id"] or "") for r in found) == expected
    assert {reason for _, reason, _ in expected} == set(Reason)
    assert next(r for r in found if r["id"] == "song-deleted")["record"]["duration_seconds"] == 200
    counted = {(e["product"], e["reason"]): e["count"] for e in bootstrapped.report["rejected"]}
    assert sum(counted.values()) == len(expected)
    assert counted["songs", Reason.SUPERSEDED] == 3


def test_the_report_counts_every_row_once(bootstrapped: Bootstrapped) -> None:
    """Read is written and rejected; what the stream delivers is neither."""
    report = bootstrapped.report
    items = ("songs", "podcasts", "audiobooks")
    for dataset, names in (("users", ("users",)), ("items", items)):
        written, rejected = (sum(len(rows[n]) for n in names) for rows in (GOOD, BAD))
        assert report[dataset] == {
            "read": written + rejected, "written": written, "rejected": rejected
        }  # fmt: skip
    assert report["interactions"] == {
        "read": len(GOOD["interactions"]) + len(BAD["interactions"]),
        "written": len(GOOD["interactions"]),
        "rejected": len(BAD["interactions"]),
        "earlier": len(EARLIER),
        "later": len(LATER),
    }
    assert (report["trainable"], report["problems"], report["until"]) == (True, [], UNTIL_MS)
    assert report["since"] == SINCE_MS
    assert bootstrapped.objects("work/") == {}
