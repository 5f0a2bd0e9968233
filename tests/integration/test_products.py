"""Data products on the emulator's S3.

A version is read whole or not at all, whatever happens to the process that writes it.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from connectors.aws.sdk import ServiceUnavailable, sdk_client
from connectors.products import upload
from connectors.products.arrow import arrow_schema
from connectors.products.columns import columns_of
from connectors.products.location import Location
from connectors.products.manifest import NotPublished, ProductError, read_current, read_manifest
from connectors.products.reader import ProductReader
from connectors.products.versions import GRACE_MS
from connectors.products.writer import ProductWriter, PublicationConflict, Rejection
from schemas.model import load_contracts
from tests.integration.kills import Killed, killed_at_each_write

SONGS = load_contracts()["songs"]
COLUMNS = columns_of(SONGS)
SCHEMA = arrow_schema(COLUMNS)
NOON_MS = 1_795_435_200_000
BIG_ROWS = 100_000
"""Of random ids: a file of two parts of a multipart upload."""


@pytest.fixture
def location(s3: Any) -> Location:
    """A place of its own."""
    bucket = f"products-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    return Location(bucket, "product/")


def writer(s3: Any, location: Location, now_ms: int = NOON_MS, **more: Any) -> ProductWriter:
    return ProductWriter(
        s3,
        location,
        product="songs",
        schema_version=1,
        columns=COLUMNS,
        now_ms=lambda: now_ms,
        **more,
    )


def batch(*ids: str) -> Any:
    """Songs with these ids, and nothing else that is not required."""
    columns = [
        pa.array(ids) if column.name in ("song_id", "title")
        else pa.array([[]] * len(ids), pa.list_(pa.string())) if column.name == "genres"
        else pa.array([False] * len(ids)) if column.name == "deleted"
        else pa.nulls(len(ids), field.type)
        for column, field in zip(COLUMNS, SCHEMA, strict=True)
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def publish(s3: Any, location: Location, *ids: str, now_ms: int = NOON_MS) -> str:
    with writer(s3, location, now_ms) as version:
        version.write(batch(*ids))
        return version.publish().version


def ids(s3: Any, location: Location, version: str | None = None) -> list[str]:
    manifest = read_manifest(s3, location, version)
    return [row["song_id"] for row in ProductReader(s3, location, manifest).rows()]


def keys(s3: Any, location: Location) -> list[str]:
    found = s3.list_objects_v2(Bucket=location.bucket)
    return [entry["Key"] for entry in found.get("Contents", ())]


def test_what_is_published_is_read(s3: Any, location: Location) -> None:
    """Rows, columns, counts, checksums; only the columns that were asked for."""
    with pytest.raises(NotPublished, match="Export it first"):
        read_manifest(s3, location)
    version = publish(s3, location, "s1", "s2")
    manifest = read_manifest(s3, location)
    assert (manifest.version, manifest.rows) == (version, 2)
    assert manifest.column_names == SONGS.newest.field_names
    (file,) = manifest.files
    stored = s3.get_object(Bucket=location.bucket, Key=location.version(version) + file.name)
    assert (file.rows, file.bytes) == (2, stored["ContentLength"])
    reader = ProductReader(s3, location, manifest, ["title"])
    assert list(reader.rows()) == [{"title": "s1"}, {"title": "s2"}]
    with pytest.raises(ProductError, match="no column 'nope'; there are: song_id, "):
        ProductReader(s3, location, manifest, ["nope"])


def test_a_reader_stays_on_its_version(s3: Any, location: Location) -> None:
    """What is published meanwhile does not change what an opened version has."""
    publish(s3, location, "s1")
    reader = ProductReader(s3, location, read_manifest(s3, location))
    publish(s3, location, "s2", now_ms=NOON_MS + 1000)
    assert [row["song_id"] for row in reader.rows()] == ["s1"]
    assert ids(s3, location) == ["s2"]


def test_an_unpublished_version_is_not_seen_and_leaves_nothing(s3: Any, location: Location) -> None:
    """Also when the block ends with an error."""
    before = publish(s3, location, "s1")
    there = keys(s3, location)

    def fail() -> None:
        with writer(s3, location) as version:
            version.write(batch("s2"), "event_day=2026-11-23")
            version.end_folder("event_day=2026-11-23")
            assert len(keys(s3, location)) == len(there) + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert keys(s3, location) == there
    assert read_manifest(s3, location).version == before


def test_files_are_closed_at_their_size(s3: Any, location: Location) -> None:
    """A large product is several files; all of them are read."""
    with writer(s3, location, file_bytes=1) as version:
        for part in range(3):
            version.write(random_songs(100_000, part))
        manifest = version.publish()
    assert [file.name for file in manifest.files] == [f"part-0000{n}.parquet" for n in range(3)]
    assert sum(b.num_rows for b in ProductReader(s3, location, manifest).batches()) == 300_000


def test_two_exports_at_once_do_not_mix(s3: Any, location: Location) -> None:
    """The second to publish is refused and leaves nothing; the first one's version stays whole."""
    with writer(s3, location) as slow:
        slow.write(batch("slow"))
        fast = publish(s3, location, "fast")
        with pytest.raises(PublicationConflict, match="published by another export"):
            slow.publish()
    assert ids(s3, location) == ["fast"]
    assert {key.split("/")[2] for key in keys(s3, location) if "versions" in key} == {fast}


def test_a_version_that_lost_an_object_is_not_published(s3: Any, location: Location) -> None:
    """Whoever removed it: a manifest names only what is there."""
    before = publish(s3, location, "s1")
    with writer(s3, location, file_bytes=1) as version:
        version.write(random_songs(100_000, 0))
        name = location.version(version.version) + "part-00000.parquet"
        s3.delete_object(Bucket=location.bucket, Key=name)
        with pytest.raises(ProductError, match=r"part-00000\.parquet .* is missing"):
            version.publish()
    assert read_manifest(s3, location).version == before


def test_a_changed_file_is_not_read(s3: Any, location: Location) -> None:
    """The manifest's checksum decides."""
    version = publish(s3, location, "s1")
    other = publish(s3, location, "s2", now_ms=NOON_MS + 1000)
    source = {"Bucket": location.bucket, "Key": location.version(other) + "part-00000.parquet"}
    key = location.version(version) + "part-00000.parquet"
    s3.copy_object(Bucket=location.bucket, Key=key, CopySource=source)
    with pytest.raises(ProductError, match="sha256 differs"):
        ids(s3, location, version)


def test_former_versions_are_kept_for_a_while(s3: Any, location: Location) -> None:
    """Three of them indefinitely, more for an hour after they were superseded."""
    times = [NOON_MS + number * 60_000 for number in range(6)]
    versions = [publish(s3, location, f"s{n}", now_ms=now) for n, now in enumerate(times)]
    assert [ids(s3, location, version) for version in versions] == [[f"s{n}"] for n in range(6)]
    newest = publish(s3, location, "s6", now_ms=times[-1] + GRACE_MS + 1)
    current = read_current(s3, location)
    assert current is not None
    assert current.version == newest
    assert [former.version for former in current.former] == versions[:2:-1]
    for version in versions[:3]:
        with pytest.raises(NotPublished, match="former versions are removed"):
            ids(s3, location, version)


def test_rejected_rows_are_listed_beside_the_manifest(s3: Any, location: Location) -> None:
    """Counted by reason in the manifest; the list survives an abandoned version, until the next."""
    rejection = Rejection("wrong_type", "title: a int, expected a string", "s9", "songs, record 4")
    with writer(s3, location) as version:
        version.reject(rejection)
        version.abandon(keep_rejected=True)
    assert keys(s3, location) == [location.version(version.version) + "rejected.ndjson"]
    with writer(s3, location, NOON_MS + 1000) as version:
        version.write(batch("s1"))
        version.reject(rejection)
        manifest = version.publish()
    assert (manifest.rejected, manifest.rejected_file) == ({"wrong_type": 1}, "rejected.ndjson")
    assert read_manifest(s3, location).rejected == {"wrong_type": 1}
    stored = s3.get_object(Bucket=location.bucket, Key=version.rejected_url.split("/", 3)[3])
    assert b'"key": "s9"' in stored["Body"].read()
    assert len(keys(s3, location)) == 4


def test_a_bucket_that_is_not_there_is_one_message(s3: Any) -> None:
    """What was attempted and what S3 said, whatever else cannot be done then."""
    with pytest.raises(ServiceUnavailable, match="publish the product songs at s3://no-such"):
        publish(s3, Location("no-such-bucket", ""), "s1")


# kill -9 at every point


@cache
def random_songs(rows: int, seed: int) -> Any:
    """Songs whose file does not compress."""
    return batch(*(f"{seed:x}{uuid4().hex}{uuid4().hex}" for _ in range(rows)))


def export_and_be_killed(url: str, location: Location, survived: int, now_ms: int) -> None:
    upload.PART_BYTES = 5 * 1024 * 1024  # type: ignore[misc]  # the least that S3 takes
    s3 = Killed(sdk_client("s3", "us-east-1", url), survived)
    with writer(s3, location, now_ms) as version:
        version.write(random_songs(BIG_ROWS, 0))
        version.reject(Rejection("missing_id", "song_id is empty", None, "songs, record 1"))
        version.publish()


def test_killed_at_any_write_and_run_again(aws: str, s3: Any, location: Location) -> None:
    """Readers see the version before it until the pointer has moved, and the next run leaves what a
    run without kills leaves: its version, the former ones, and nothing else."""
    published = [publish(s3, location, "first", now_ms=NOON_MS - 3600_000)]
    kills = 0
    for kills in killed_at_each_write(
        lambda survived: export_and_be_killed(aws, location, survived, NOON_MS + survived * 1000)
    ):
        current = read_manifest(s3, location)
        if current.version not in published:  # killed after its pointer had moved
            published.append(current.version)
            assert current.rows == BIG_ROWS, f"after {kills} kills"
        for _ in ProductReader(s3, location, current, ["song_id"]).batches():
            pass
    assert kills >= 7  # two parts, their begin and end, rejected rows, manifest, pointer, removal
    last = publish(s3, location, "last", now_ms=NOON_MS + 3600_000)
    assert ids(s3, location) == ["last"]
    current_pointer = read_current(s3, location)
    assert current_pointer is not None
    kept = {last, *(former.version for former in current_pointer.former)}
    assert kept <= {last, *published, *_all_versions(s3, location)}
    assert _all_versions(s3, location) == kept
    assert not s3.list_multipart_uploads(Bucket=location.bucket).get("Uploads")
    for version in kept:
        ids(s3, location, version)


def _all_versions(s3: Any, location: Location) -> set[str]:
    return {
        key.removeprefix(location.versions).partition("/")[0]
        for key in keys(s3, location)
        if key.startswith(location.versions)
    }
