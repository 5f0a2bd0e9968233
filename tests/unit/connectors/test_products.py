"""Promises of a product's layout and columns; nothing is written anywhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from connectors.products.arrow import arrow_schema
from connectors.products.columns import Kind, columns_of, fields_without_column
from connectors.products.location import Location
from connectors.products.manifest import Former, Manifest, ProductFile
from connectors.products.versions import GRACE_MS, kept_versions, version_name, version_of
from schemas.model import Contract, ContractError, SchemaVersion, load_contracts

CONTRACTS = load_contracts()


def with_field(contract: Contract, avro: object) -> Contract:
    schema = contract.newest.avro
    schema["fields"].append({"name": "x", "type": avro})
    return replace(contract, versions=(SchemaVersion(1, json.dumps(schema)),))


def test_the_columns_are_the_fields_typed() -> None:
    """Names and order of the newest Avro version; nullable where there is a null branch."""
    schema = arrow_schema(columns_of(CONTRACTS["songs"]))
    assert schema.equals(
        pa.schema(
            [
                pa.field("song_id", pa.string(), nullable=False),
                pa.field("title", pa.string(), nullable=False),
                pa.field("artist", pa.string()),
                pa.field("genres", pa.list_(pa.string()), nullable=False),
                pa.field("duration_seconds", pa.int32()),
                pa.field("released_at", pa.timestamp("ms", tz="UTC")),
                pa.field("updated_at", pa.timestamp("ms", tz="UTC")),
                pa.field("deleted", pa.bool_(), nullable=False),
            ]
        )
    )


def test_interactions_have_their_publication() -> None:
    """The hand-over between bootstrap and stream is by it."""
    *fields, last = columns_of(CONTRACTS["interactions"])
    assert tuple(column.name for column in fields) == (CONTRACTS["interactions"].newest.field_names)
    assert (last.name, last.kind, last.nullable) == ("published_at", Kind.TIMESTAMP, False)


@pytest.mark.parametrize(
    ("avro", "kind"),
    [
        ("double", Kind.DOUBLE),
        (["null", "float"], Kind.FLOAT),
        ({"type": "string"}, Kind.STRING),
        ({"type": "array", "items": {"type": "string"}}, Kind.STRINGS),
        ({"type": "string", "logicalType": "uuid"}, Kind.STRING),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, Kind.STRING),
    ],
)
def test_every_plain_type_has_a_column(avro: object, kind: Kind) -> None:
    """However the schema writes it."""
    assert columns_of(with_field(CONTRACTS["songs"], avro))[-1].kind is kind


@pytest.mark.parametrize(
    "avro",
    [
        "bytes",
        ["null", "string", "int"],
        {"type": "map", "values": "string"},
        {"type": "array", "items": "int"},
        {"type": "record", "name": "R", "fields": []},
        {"type": "long", "logicalType": "timestamp-micros"},
        {"type": "int", "logicalType": "date"},
    ],
    ids=str,
)
def test_a_field_of_a_type_without_a_column_is_left_out(avro: object) -> None:
    """The others are exported; a timestamp in another unit is not taken for milliseconds."""
    contract = with_field(CONTRACTS["songs"], avro)
    assert columns_of(contract) == columns_of(CONTRACTS["songs"])
    assert fields_without_column(contract) == ("x",)


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://b/a/c/", "b", "a/c/"),
        ("s3://b/a", "b", "a/"),
        ("s3://b", "b", ""),
        ("s3a://b/", "b", ""),
    ],
)
def test_a_location_is_a_bucket_and_a_folder(url: str, bucket: str, prefix: str) -> None:
    """With or without a slash at its end."""
    location = Location.parse(url)
    assert (location.bucket, location.prefix) == (bucket, prefix)
    assert location.manifest("v") == f"{prefix}versions/v/manifest.json"


@pytest.mark.parametrize("url", ["", "b/a", "https://b/a", "s3:///a"])
def test_anything_else_is_no_location(url: str, tmp_path: Path) -> None:
    """The message names the contract."""
    contract = replace(CONTRACTS["songs"], location=url)
    with pytest.raises(ContractError, match=r"contract\.yaml: servers: .* expected s3://"):
        Location.of(contract)


def test_a_manifest_is_read_as_it_was_written() -> None:
    """And has what the layout promises to other readers."""
    manifest = Manifest(
        product="songs",
        schema_version=1,
        version="20261123T142500Z-1a2b3c4d",
        created_at=1,
        until=None,
        rows=2,
        columns=tuple(replace(c, default=None) for c in columns_of(CONTRACTS["songs"])),
        files=(ProductFile("part-00000.parquet", 2, 10, "ab"),),
        deleted=3,
        rejected={"missing_id": 1},
        rejected_file="rejected.ndjson",
    )
    assert Manifest.from_json(manifest.to_json(), "s3://b/manifest.json") == manifest
    document = json.loads(manifest.to_json())
    assert document["files"] == [
        {"name": "part-00000.parquet", "rows": 2, "bytes": 10, "sha256": "ab"}
    ]
    assert document["columns"][0] == {"name": "song_id", "type": "string", "nullable": False}
    assert document["rejected"]["rows"] == 1


def test_a_versions_name_begins_with_its_time() -> None:
    """So that names sort as versions do."""
    name = version_name(1_795_443_900_999, "1a2b3c4d")
    assert name == "20261123T142500Z-1a2b3c4d"
    location = Location("b", "p/")
    assert version_of(location, location.version(name) + "event_day=1/part") == name
    for key in ("p/current.json", "p/versions/other/part", f"q/versions/{name}/part"):
        assert version_of(location, key) is None


def test_former_versions_stay_by_number_or_age() -> None:
    """The newest ones, and each that readers may still be on."""
    former = [Former(f"v{n}", 1000 - n) for n in range(5)]

    def kept(now: int, keep: int) -> str:
        return re.sub(
            "[^0-9]", "", "".join(one.version for one in kept_versions(former, now, keep))
        )

    assert kept(1000, 2) == "01234"
    assert kept(998 + GRACE_MS, 2) == "01"
    assert kept(998 + GRACE_MS, 0) == "01"
    assert kept(1000 + GRACE_MS, 0) == ""
