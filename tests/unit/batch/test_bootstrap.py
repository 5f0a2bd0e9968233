"""The bootstrap without its job: settings, what is read, what is put where, and the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch.bootstrap import finish
from batch.bootstrap import report as reports
from batch.bootstrap.products import read_product, read_products
from batch.bootstrap.report import tally, training_problems
from batch.bootstrap.settings import BootstrapSettings, Window, bootstrap_settings
from batch.bootstrap.sql import script
from batch.bootstrap.storage import LocalStorage, S3Storage
from batch.personalize_schemas import (
    KEYWORDS,
    columns,
    interactions_schema,
    items_schema,
    users_schema,
)
from connectors.personalize.datasets import ITEMS, USERS, dataset_fields
from connectors.personalize.requests import DEFAULT_PROPERTIES
from connectors.products.columns import Column, Kind
from connectors.products.manifest import Current, Manifest, ProductError, ProductFile
from schemas.errors import SettingError, TunemeshError
from schemas.model import load_contracts

CONTRACTS = load_contracts()
NAMES = ("users", "songs", "podcasts", "interactions")
GROUPS = {
    "tunemesh.bootstrap": {"output": "s3://bucket/prefix/", "run": "r-1", "region": "eu-west-1"},
    "tunemesh.products": {name: f"s3://{name}/product/" for name in NAMES},
}


def publish(folder: Path, name: str, files: dict[str, bytes]) -> str:
    """A product in a local folder; its files are no Parquet, which nothing here reads."""
    version = folder / name / "versions" / "v1"
    for file, content in files.items():
        (version / file).parent.mkdir(parents=True, exist_ok=True)
        (version / file).write_bytes(content)
    manifest = Manifest(
        product=name,
        schema_version=1,
        version="v1",
        created_at=0,
        until=None,
        rows=7,
        columns=tuple(Column(column, Kind.STRING, nullable=True) for column in ("a", "b")),
        files=tuple(ProductFile(n, 1, len(content), "") for n, content in files.items()),
    )
    (version / "manifest.json").write_bytes(manifest.to_json())
    (folder / name / "current.json").write_bytes(Current.to_json("v1", ()))
    return (folder / name).as_uri()


class TestSettings:
    def test_groups_become_settings(self) -> None:
        """Each property ends up where it belongs."""
        groups = {**GROUPS, "tunemesh.columns": {"users": "user_id, country"}}
        settings = bootstrap_settings(groups)
        assert settings.folder == "s3://bucket/prefix/r-1"
        assert settings.work == "s3://bucket/prefix/r-1/work"
        assert settings.columns == {"users": ("user_id", "country")}
        assert (settings.window, settings.endpoint_url) == (Window(), None)

    @pytest.mark.parametrize(
        ("group", "name", "value", "expected"),
        [
            ("bootstrap", "run", "a/b", "letters, digits, '.', '_' and '-'"),
            ("bootstrap", "output", "/folder", "s3://bucket/prefix or file:///folder"),
            ("bootstrap", "region", "", "AWS region of S3"),
            ("bootstrap", "until", "yesterday", "epoch milliseconds, or a time such as 2026"),
            ("bootstrap", "since", "x", "epoch milliseconds, or a time such as 2026"),
            ("products", "users", "/folder", "s3://bucket/prefix or file:///folder"),
        ],
    )
    def test_an_invalid_property_is_named(
        self, group: str, name: str, value: str, expected: str
    ) -> None:
        """With its group and what was expected."""
        groups = {**GROUPS, f"tunemesh.{group}": {**GROUPS[f"tunemesh.{group}"], name: value}}
        message = f"'{name}' of the group 'tunemesh.{group}' is '{value}'; expected {expected}"
        with pytest.raises(SettingError, match=re.escape(message)):
            bootstrap_settings(groups)

    def test_an_unknown_property_is_named_without_its_value(self) -> None:
        """With the known ones."""
        groups = {**GROUPS, "tunemesh.bootstrap": {**GROUPS["tunemesh.bootstrap"], "x": "y"}}
        with pytest.raises(SettingError, match=r"'x' .* is unknown; expected one of .* region, ru"):
            bootstrap_settings(groups)

    def test_a_window_has_milliseconds_or_iso_8601(self) -> None:
        """In epoch milliseconds."""
        own = {"since": "1790000000123", "until": "1970-01-01T01:00:00.250+01:00"}
        groups = {**GROUPS, "tunemesh.bootstrap": {**GROUPS["tunemesh.bootstrap"], **own}}
        assert bootstrap_settings(groups).window == Window(1_790_000_000_123, 250)


class TestProducts:
    def test_exactly_the_files_of_the_manifest_match(self, tmp_path: Path) -> None:
        """Nothing that lies beside them, and no name that only looks alike."""
        files = {"event_day=2026-11-23/part-00000.parquet": b"12", "part-1.parquet": b"3"}
        location = publish(tmp_path, "users", files)
        product = read_product("users", location, None, LocalStorage())
        root = f"{tmp_path}/users/versions/v1"
        found = [
            name
            for name in (*files, "part-1xparquet", "part-2.parquet", "old/part-1.parquet")
            if re.fullmatch(product.pattern, f"{root}/{name}")
        ]
        assert found == list(files)
        assert (product.version, product.rows) == ("v1", 7)
        assert product.columns == {"a", "b"}

    def test_only_granted_columns_are_read(self, tmp_path: Path) -> None:
        """A column that was not granted is as if it were not there."""
        location = publish(tmp_path, "users", {"part-1.parquet": b"3"})
        assert read_product("users", location, ("a", "c"), LocalStorage()).columns == {"a"}

    def test_columns_without_which_nothing_is_imported_are_named(self, tmp_path: Path) -> None:
        """Before the job is started; SQL would have no such column."""
        locations = {c.name: publish(tmp_path, c.name, {"p": b"3"}) for c in CONTRACTS.sources}
        with pytest.raises(ProductError, match="the columns user_id of the product users are not"):
            read_products(CONTRACTS, locations, {"users": ("a",)}, LocalStorage())

    def test_a_named_manifest_is_read_instead_of_the_current_one(self, tmp_path: Path) -> None:
        """So that a run stays on the version that it was started with."""
        location = publish(tmp_path, "users", {"part-1.parquet": b"3"})
        (tmp_path / "users" / "current.json").unlink()
        product = read_product(
            "users", f"{location}/versions/v1/manifest.json", None, LocalStorage()
        )
        assert product.version == "v1"

    @pytest.mark.parametrize("content", [None, b"other length"])
    def test_a_file_that_is_not_as_listed_stops_the_start(
        self, tmp_path: Path, content: bytes | None
    ) -> None:
        """Missing, or not as long as the manifest says."""
        location = publish(tmp_path, "users", {"part-1.parquet": b"3"})
        file = tmp_path / "users/versions/v1/part-1.parquet"
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(ProductError, match=r"part-1\.parquet of the product users"):
            read_product("users", location, None, LocalStorage())

    def test_a_product_without_a_location_or_a_contract_is_named(self, tmp_path: Path) -> None:
        """Before anything is read."""
        with pytest.raises(ProductError, match="no location of the product users"):
            read_products(CONTRACTS, {}, {}, LocalStorage())
        with pytest.raises(ProductError, match="trends is no product"):
            read_products(CONTRACTS, {"trends": "s3://x"}, {}, LocalStorage())


def test_the_schemas_have_the_fields_that_the_stream_sends() -> None:
    """In the spelling of a schema, after the key."""
    for schema, key, dataset in (
        (users_schema(CONTRACTS), "USER_ID", USERS),
        (items_schema(CONTRACTS), "ITEM_ID", ITEMS),
    ):
        fields = dataset_fields(CONTRACTS, dataset)
        assert columns(schema) == (key, *(field.column for field in fields))
    properties = columns(interactions_schema(CONTRACTS))[-len(DEFAULT_PROPERTIES) :]
    assert properties == ("ITEM_TYPE", "DEVICE", "COUNTRY", "SUBSCRIPTION", "GENRE")
    assert {"USER_ID", "ITEM_ID", "TIMESTAMP", "CREATION_TIMESTAMP"} < set(KEYWORDS)


COUNTS = {
    ("songs", "good"): 10,
    ("songs", "superseded"): 2,
    ("songs", "too_long"): 3,
    ("podcasts", "good"): 5,
    ("interactions", "good"): 1000,
    ("interactions", "later"): 7,
    ("interactions", "no_user"): 4,
    ("interactions", "@users"): 2500,
    ("interactions", "@active_users"): 25,
    ("interactions", "@event_types"): 5,
}
"""By product and reason or figure."""


class TestReport:
    def test_a_row_is_counted_once(self) -> None:
        """Superseded ones were good; later ones are not read."""
        items = tally(COUNTS, ["songs", "podcasts"])
        assert (items.read, items.written, items.rejected) == (18, 13, 5)
        interactions = tally(COUNTS, ["interactions"])
        assert (interactions.read, interactions.written, interactions.later) == (1004, 1000, 7)

    def test_just_enough_is_enough(self) -> None:
        """1000 interactions, 25 users with two, 1% of the users, ten kinds."""
        assert training_problems(COUNTS, 1000, 5) == []

    @pytest.mark.parametrize(
        ("figure", "value", "problem"),
        [
            ("good", 999, "999 interactions"),
            ("@active_users", 24, "24 users"),
            ("@users", 2501, "25 of 2501 users"),
            ("@event_types", 6, "6 event types and 5 metadata columns"),
        ],
    )
    def test_too_little_is_said(self, figure: str, value: int, problem: str) -> None:
        """Each minimum on its own."""
        counts = {**COUNTS, ("interactions", figure): value}
        found = training_problems(counts, counts["interactions", "good"], 5)
        assert any(text.startswith(problem) for text in found), found


class TestFinish:
    @pytest.fixture
    def made(self, tmp_path: Path) -> tuple[BootstrapSettings, Any]:
        """What a job has left, of products with seven rows each."""
        locations = {name: publish(tmp_path, name, {"part-1.parquet": b"3"}) for name in NAMES}
        settings = BootstrapSettings(
            f"{tmp_path.as_uri()}/out", "r", "eu-west-1", until=5, products=locations
        )
        products = read_products(CONTRACTS, locations, {}, LocalStorage())
        self.put(settings, "users/part-b-0", "u2,,,,\n")
        self.put(settings, "users/part-a-0", "u1,,,,\n")
        self.put(settings, "users/.staging/part-x", "half\n")
        line = {"dataset": "items", "product": "songs", "id": "s", "reason": "too_long"}
        self.put(settings, "rejected/songs/part-0", json.dumps(line) + "\n")
        self.count(settings, ("songs", "too_long", 1), *((name, "good", 7) for name in NAMES[:1]))
        return settings, products

    def put(self, settings: BootstrapSettings, name: str, text: str) -> None:
        LocalStorage().write(f"{settings.work}/{name}", text.encode())

    def count(self, settings: BootstrapSettings, *counts: tuple[str, str, int]) -> None:
        lines = (json.dumps({"product": p, "name": name, "n": n}) + "\n" for p, name, n in counts)
        self.put(settings, "counts/part-0", "".join(lines))

    def enough(self) -> list[tuple[str, str, int]]:
        return [
            ("users", "good", 7), ("songs", "good", 6), ("songs", "too_long", 1),
            ("podcasts", "good", 7), ("interactions", "good", 7), ("interactions", "later", 0),
        ]  # fmt: skip

    def finish(
        self, settings: BootstrapSettings, products: Any, *counts: tuple[str, str, int]
    ) -> Any:
        self.count(settings, *counts)
        return finish.finish(settings, CONTRACTS, products, LocalStorage())

    def test_too_little_puts_a_report_and_no_csv(self, made: Any, tmp_path: Path) -> None:
        """What could not be trained with is not there to be imported."""
        report = self.finish(*made, *self.enough())
        assert not report["trainable"]
        names = sorted(str(p.relative_to(tmp_path / "out/r")) for p in
                       (tmp_path / "out/r").rglob("*") if p.is_file())  # fmt: skip
        assert names == ["rejected/part-00000.json", "report.json"]
        (entry,) = report["rejected"]
        assert (entry["reason"], entry["count"], entry["ids"]) == ("too_long", 1, ["s"])

    def test_each_file_gets_the_header(
        self, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Files that the job had not committed are left out."""
        monkeypatch.setattr(reports, "training_problems", lambda *_: [])
        assert self.finish(*made, *self.enough())["trainable"]
        header = ",".join(columns(users_schema(CONTRACTS)))
        found = [p.read_text() for p in sorted((tmp_path / "out/r/users").iterdir())]
        assert found == [f"{header}\nu1,,,,\n", f"{header}\nu2,,,,\n"]

    def test_rows_that_were_not_read_are_an_error(self, made: Any) -> None:
        """The job must have read what the manifest lists: all of it, once."""
        with pytest.raises(finish.IncompleteError, match="read 0 rows of the product interactions"):
            self.finish(*made, *self.enough()[:-2])

    def test_a_complete_run_is_not_made_again_and_not_of_something_else(self, made: Any) -> None:
        """Its report says what it was made of."""
        settings, products = made
        assert finish.read_report(settings, products, LocalStorage()) is None
        report = self.finish(*made, *self.enough())
        assert finish.read_report(settings, products, LocalStorage()) == report
        other = replace(settings, since=6)
        with pytest.raises(TunemeshError, match="another name"):
            finish.read_report(other, products, LocalStorage())


def test_a_header_is_put_before_an_object_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one is written anew; of a large one all but the first part is copied there."""
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("batch.bootstrap.storage.MAX_PART_BYTES", 6 * 1024 * 1024)
    with mock_aws():
        storage = S3Storage("us-east-1", None)
        storage._client.create_bucket(Bucket="bucket")
        large = b"0123456789abcdef" * (1024 * 1024 + 3)
        for content in (b"small\n", large):
            storage.write("s3://bucket/in/part", content)
            storage.compose(b"A,B\n", "s3://bucket/in/part", "s3://bucket/out/part.csv")
            assert storage.read("s3://bucket/out/part.csv") == b"A,B\n" + content
        assert storage.sizes("s3://bucket/out") == {"part.csv": len(large) + 4}
        storage.remove("s3://bucket/out")
        assert storage.sizes("s3://bucket/out") == {}
        with pytest.raises(FileNotFoundError):
            storage.read("s3://bucket/out/part.csv")


def test_a_domain_is_read_through_its_own_manifest_alone(tmp_path: Path) -> None:
    """Every product's folder and files are in the script, and the time that separates them."""
    locations = {name: publish(tmp_path, name, {f"{name}.parquet": b"3"}) for name in NAMES}
    products = read_products(CONTRACTS, locations, {}, LocalStorage())
    made = script(CONTRACTS, products, "file:///w", Window(77, 123))
    text = "\n".join(made.definitions)
    for name in NAMES:
        assert f"{tmp_path.as_uri()}/{name}/versions/v1'" in text
        assert f"{name}\\.parquet" in text
    assert "published_at >= 123" in text
