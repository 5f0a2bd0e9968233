"""The catalog on the emulator's Glue and Lake Formation: what is registered is found, and only what
was granted is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from cli.products import catalog as catalog_command
from cli.products import export as export_command
from connectors.aws.sdk import sdk_client
from connectors.catalog.catalog import Catalog
from connectors.catalog.errors import CatalogError, NotGranted
from connectors.catalog.pii import PiiClass
from connectors.products.columns import columns_of
from connectors.products.location import Location
from connectors.products.manifest import Manifest, NotPublished, read_manifest
from connectors.products.writer import ProductWriter
from schemas.model import Contract, load_contracts
from tests.support.ports import free_port
from tests.support.servers import aws_emulator

CONTRACTS = load_contracts()
ALL_USER_COLUMNS = CONTRACTS["users"].newest.field_names
FREE_USER_COLUMNS = ("subscription", "created_at", "updated_at", "deleted")
PII = ("pseudonymous", "personal")


def made(name: str, s3: Any, **changes: Any) -> Contract:
    """A contract like a built-in one, with a name and places that no other test uses."""
    token = uuid4().hex[:8]
    bucket = f"catalog-{token}"
    s3.create_bucket(Bucket=bucket)
    return replace(
        CONTRACTS[name],
        name=f"{name}-{token}",
        location=f"s3://{bucket}/product/",
        catalog_table=f"domain_{token}.{name.replace('-', '_')}",
        **changes,
    )


def published(s3: Any, contract: Contract, *ids: str) -> Manifest:
    """A version of its product, with a row an id."""
    columns = columns_of(contract)
    with ProductWriter(
        s3, Location.of(contract), product=contract.name, schema_version=1, columns=columns
    ) as writer:
        filled = {"string": "x", "boolean": False, "list<string>": [], "timestamp-millis": 1}
        arrays = [
            pa.array(ids if c.name == contract.key else [filled[c.kind]] * len(ids), type=f.type)
            for c, f in zip(columns, writer.schema, strict=True)
            if ids
        ]
        if ids:
            writer.write(pa.RecordBatch.from_arrays(arrays, schema=writer.schema))
        return writer.publish()


@pytest.fixture(scope="module")
def catalog(aws: str) -> Catalog:
    return Catalog.connect("us-east-1", aws)


@pytest.fixture
def users(catalog: Catalog, s3: Any) -> Contract:
    """A registered product of users."""
    contract = made("users", s3, tags=("people", "listeners"))
    catalog.register(contract, published(s3, contract, "u1", "u2"))
    return contract


# Registered and found


def test_a_registered_product_is_found(catalog: Catalog, s3: Any, users: Contract) -> None:
    """By domain, role, field and tag, all of which must hold."""
    interactions = made("interactions", s3, domain=f"plays-{users.name}")
    catalog.register(interactions, published(s3, interactions))

    def found(**criteria: str) -> set[str]:
        ours = {users.name, interactions.name}
        return {one.name for one in catalog.find(**criteria)} & ours

    assert found() == {users.name, interactions.name}
    assert found(domain="users") == {users.name}
    assert found(domain=interactions.domain) == {interactions.name}
    assert found(role="user") == {users.name}
    assert found(field="age_band") == {users.name}
    assert found(field="user_id") == {users.name, interactions.name}
    assert found(tag="listeners") == {users.name}
    assert found(tag="listeners", role="interaction") == set()
    assert found(field="nope") == set()


def test_a_description_says_types_and_classes(catalog: Catalog, users: Contract) -> None:
    """What a consumer has to know before it asks for a grant."""
    product = catalog.describe(users.name)
    assert (product.owner, product.rows, product.schema_version) == (users.owner, 2, 1)
    assert {one.name: (one.type, one.pii) for one in product.columns} == {
        "user_id": ("string", PiiClass.PSEUDONYMOUS),
        "country": ("string", PiiClass.PERSONAL),
        "age_band": ("string", PiiClass.PERSONAL),
        "subscription": ("string", PiiClass.INTERNAL),
        "created_at": ("timestamp", PiiClass.INTERNAL),
        "updated_at": ("timestamp", PiiClass.INTERNAL),
        "deleted": ("boolean", PiiClass.INTERNAL),
    }
    with pytest.raises(CatalogError, match=r"no product 'unknown'; it has: .*register unknown"):
        catalog.describe("unknown")


def test_the_tables_name_the_current_version(
    aws: str, catalog: Catalog, s3: Any, users: Contract
) -> None:
    """The domain's table moves with each registration, its former versions stay; the central one is
    a link to it. To register again changes nothing."""
    glue = sdk_client("glue", "us-east-1", aws)
    database, table = users.catalog_table.split(".")
    newer = published(s3, users, "u3")
    again = [catalog.register(users, newer) for _ in range(2)]
    assert [one.created for one in again] == [False, False]
    found = glue.get_table(DatabaseName=database, Name=table)["Table"]
    location = Location.of(users)
    manifest = location.url(location.manifest(newer.version))
    assert found["Parameters"]["tunemesh.manifest"] == manifest
    assert found["StorageDescriptor"]["Location"] == location.url(location.version(newer.version))
    versions = glue.get_table_versions(DatabaseName=database, TableName=table)["TableVersions"]
    assert len(versions) == 2
    link = glue.get_table(DatabaseName="tunemesh_central", Name=users.name.replace("-", "_"))
    assert link["Table"]["TargetTable"] == {
        "CatalogId": "000000000000",
        "DatabaseName": database,
        "Name": table,
    }


def test_another_domain_cannot_take_a_products_name(
    catalog: Catalog, s3: Any, users: Contract
) -> None:
    """The central catalog's name is of the first that has registered it."""
    thief = replace(made("users", s3), name=users.name)
    with pytest.raises(CatalogError, match=f"has another product '{users.name}'"):
        catalog.register(thief, published(s3, thief, "x"))
    assert catalog.describe(users.name).rows == 2


# Granted and read


def test_what_was_granted_is_read_and_nothing_else(
    catalog: Catalog, s3: Any, users: Contract
) -> None:
    """Columns in the product's order; all of the grant without a choice."""
    catalog.grant(users.name, "recommender", ["subscription", "user_id"], ["pseudonymous"])
    opened = catalog.open_product(users.name, "recommender")
    assert opened.columns == ("user_id", "subscription")
    assert list(opened.reader(s3).rows()) == [
        {"user_id": user, "subscription": "x"} for user in ("u1", "u2")
    ]
    assert catalog.open_product(users.name, "recommender", ["user_id"]).columns == ("user_id",)
    newer = published(s3, users, "u3")
    assert catalog.open_product(users.name, "recommender").manifest.version == newer.version


def test_an_ungranted_consumer_is_refused(catalog: Catalog, users: Contract) -> None:
    """Also when another one has a grant; the message says whom to ask, and how."""
    catalog.grant(users.name, "recommender")
    with pytest.raises(
        NotGranted,
        match=f"fraud-detector may not read the product {users.name}.*{users.owner}.*catalog grant",
    ):
        catalog.open_product(users.name, "fraud-detector")
    with pytest.raises(CatalogError, match="no product 'unknown'"):
        catalog.open_product("unknown", "recommender")


def test_a_revoked_consumer_is_refused(catalog: Catalog, users: Contract) -> None:
    """At its next opening; the others keep their grants, and it may be granted again."""
    catalog.grant(users.name, "recommender")
    catalog.grant(users.name, "analytics")
    assert catalog.revoke(users.name, "recommender").columns == FREE_USER_COLUMNS
    with pytest.raises(NotGranted, match="it has no grant, or it was revoked"):
        catalog.open_product(users.name, "recommender")
    assert catalog.open_product(users.name, "analytics").columns == FREE_USER_COLUMNS
    with pytest.raises(NotGranted, match=f"recommender has no grant on the product {users.name}"):
        catalog.revoke(users.name, "recommender")
    catalog.grant(users.name, "recommender", ["subscription"])
    assert catalog.open_product(users.name, "recommender").columns == ("subscription",)


@pytest.mark.parametrize(("column", "named"), [("country", "personal"), ("user_id", "pseudony")])
def test_a_pii_column_that_is_not_granted_is_refused(
    catalog: Catalog, users: Contract, column: str, named: str
) -> None:
    """Whoever asks for it by name learns its class; without a choice it is just not there."""
    catalog.grant(users.name, "recommender")
    with pytest.raises(NotGranted, match=rf"may not read the column '{column}'.*PII class {named}"):
        catalog.open_product(users.name, "recommender", ["subscription", column])
    assert catalog.open_product(users.name, "recommender").columns == FREE_USER_COLUMNS
    with pytest.raises(CatalogError, match="has no column 'nope'"):
        catalog.open_product(users.name, "recommender", ["nope"])


def test_a_grant_has_to_name_the_pii_classes_of_its_columns(
    catalog: Catalog, users: Contract
) -> None:
    """Nothing is granted otherwise; each class by its name, personal does not include others."""
    for pii in ((), ("personal",)):
        with pytest.raises(CatalogError, match=r"'user_id' .* PII class pseudonymous, .*--pii pse"):
            catalog.grant(users.name, "recommender", ["user_id", "subscription"], pii)
    with pytest.raises(CatalogError, match="no column 'nope'"):
        catalog.grant(users.name, "recommender", ["nope"])
    with pytest.raises(CatalogError, match="no PII class 'secret'"):
        catalog.grant(users.name, "recommender", None, ["secret"])
    with pytest.raises(NotGranted):
        catalog.open_product(users.name, "recommender")
    whole = catalog.grant(users.name, "recommender", None, PII)
    assert whole.columns == ALL_USER_COLUMNS
    assert whole.pii == (PiiClass.INTERNAL, PiiClass.PSEUDONYMOUS, PiiClass.PERSONAL)


def test_a_grant_is_what_was_said_last(catalog: Catalog, users: Contract) -> None:
    """More, fewer, other columns, and the same again."""
    for columns in (["subscription"], ["subscription", "deleted"], ["created_at"], ["created_at"]):
        catalog.grant(users.name, "recommender", columns)
        assert catalog.open_product(users.name, "recommender").columns == tuple(columns)
    (grant,) = catalog.list_grants(users.name)
    assert (grant.consumer, grant.columns) == ("recommender", ("created_at",))


def test_grants_are_listed_by_product_and_consumer(
    catalog: Catalog, s3: Any, users: Contract
) -> None:
    """A role's name, its ARN and an account are all consumers; a role has two names and one
    grant."""
    other = made("songs", s3)
    catalog.register(other, published(s3, other))
    arn = "arn:aws:iam::000000000000:role/recommender"
    catalog.grant(users.name, "recommender", ["subscription"])
    catalog.grant(users.name, "123456789012", ["deleted"])
    catalog.grant(other.name, arn, ["title"])
    assert {(g.consumer, g.columns) for g in catalog.list_grants(users.name)} == {
        ("recommender", ("subscription",)),
        ("123456789012", ("deleted",)),
    }
    for consumer in ("recommender", arn):
        ours = [
            g
            for g in catalog.list_grants(consumer=consumer)
            if g.product in (users.name, other.name)
        ]
        assert {(g.product, g.columns) for g in ours} == {
            (users.name, ("subscription",)),
            (other.name, ("title",)),
        }
    assert catalog.open_product(users.name, arn).columns == ("subscription",)


def test_a_column_whose_class_has_risen_leaves_every_grant(
    catalog: Catalog, s3: Any, users: Contract
) -> None:
    """It was granted as something else; the rest of the grants stays."""
    catalog.grant(users.name, "recommender", ["subscription", "deleted"])
    catalog.grant(users.name, "analytics", ["subscription"])
    catalog.grant(users.name, "dashboards", ["deleted"])
    stricter = replace(users, pii={**users.pii, "subscription": "personal"})
    manifest = read_manifest(s3, Location.of(users))
    registration = catalog.register(stricter, manifest)
    assert {one.consumer for one in registration.revoked} == {"recommender", "analytics"}
    assert catalog.open_product(users.name, "recommender").columns == ("deleted",)
    assert catalog.open_product(users.name, "dashboards").columns == ("deleted",)
    with pytest.raises(NotGranted):
        catalog.open_product(users.name, "analytics")
    assert catalog.register(stricter, manifest).revoked == ()


def test_a_permission_that_others_gave_counts(aws: str, catalog: Catalog, users: Contract) -> None:
    """A whole table, or all columns but some: what Lake Formation lists decides."""
    lakeformation = sdk_client("lakeformation", "us-east-1", aws)
    table = catalog.describe(users.name).table.document()
    without = {"ColumnWildcard": {"ExcludedColumnNames": ["country", "age_band"]}}
    for role, resource in (
        ("whole", {"Table": table}),
        ("most", {"TableWithColumns": {**table, **without}}),
    ):
        lakeformation.grant_permissions(
            Principal={"DataLakePrincipalIdentifier": f"arn:aws:iam::000000000000:role/{role}"},
            Resource=resource,
            Permissions=["SELECT"],
        )
    assert catalog.open_product(users.name, "whole").columns == ALL_USER_COLUMNS
    most = tuple(name for name in ALL_USER_COLUMNS if name not in ("country", "age_band"))
    assert catalog.open_product(users.name, "most").columns == most
    catalog.revoke(users.name, "whole")
    with pytest.raises(NotGranted):
        catalog.open_product(users.name, "whole")


def test_a_class_that_does_not_exist_is_not_registered(catalog: Catalog, s3: Any) -> None:
    """Before anything is written."""
    contract = made("users", s3, pii_default="harmless")
    with pytest.raises(CatalogError, match="no PII class 'harmless'"):
        catalog.register(contract, published(s3, contract, "u1"))
    with pytest.raises(CatalogError, match="no product"):
        catalog.describe(contract.name)


# The commands, and what outlasts a restart


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: str
) -> Iterator[Callable[..., Result]]:
    """Runs `tunemesh export` and `tunemesh catalog` with contracts of their own."""
    token = uuid4().hex[:8]
    folder = tmp_path / "contracts" / f"tapes-{token}"
    shutil.copytree(CONTRACTS["songs"].folder, folder)
    (folder / "songs.v1.avsc").rename(folder / f"tapes-{token}.v1.avsc")
    text = (folder / "contract.yaml").read_text()
    text = text.replace("songs", f"tapes-{token}").replace("song", "tape")
    text = text.replace("tape_id", "song_id")
    text = text.replace(f"tunemesh_tapes-{token}.tapes-{token}", f"tapes_{token}.tapes")
    (folder / "contract.yaml").write_text(text)
    monkeypatch.setenv("TUNEMESH_CONTRACTS", str(tmp_path / "contracts"))
    monkeypatch.setenv("TUNEMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUNEMESH_AWS_PORT", aws.rpartition(":")[2])
    monkeypatch.setenv("TUNEMESH_DYNAMODB_URL", aws)
    load_contracts.cache_clear()

    def invoke(*arguments: str) -> Result:
        command = {"export": export_command, "catalog": catalog_command}[arguments[0]]
        words = [word.replace("TAPES", f"tapes-{token}") for word in arguments[1:]]
        result = CliRunner().invoke(command, words)
        result.stdout_bytes = result.stdout_bytes.replace(token.encode(), b"0")
        return result

    dynamodb = sdk_client("dynamodb", "us-east-1", aws)
    table = f"tunemesh-tapes-{token}"
    dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "song_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "song_id", "KeyType": "HASH"}],
    )
    item = {"song_id": {"S": "t1"}, "title": {"S": "Tape"}, "genres": {"L": []}}
    dynamodb.put_item(TableName=table, Item=item)
    yield invoke
    load_contracts.cache_clear()


def test_a_new_folder_is_exported_registered_and_granted(run: Callable[..., Result]) -> None:
    """The tapes are a copy of a contract folder; no code knows them."""
    assert "1 row in 1 file," in run("export", "TAPES").stdout
    assert "registered" in run("catalog", "register", "TAPES").stdout
    assert "updated to" in run("export", "TAPES").stdout
    assert "tapes-0" in run("catalog", "find", "--role", "item", "--field", "artist").stdout
    assert "may read of tapes-0: song_id, title" in (
        run("catalog", "grant", "TAPES", "shop", "--column", "title", "--column", "song_id").stdout
    )
    described = run("catalog", "describe", "TAPES").stdout
    assert "genres" in described
    assert "array<string>" in described
    assert "shop may read song_id, title" in described
    assert "shop" in run("catalog", "list", "--consumer", "shop").stdout
    assert "no longer" in run("catalog", "revoke", "TAPES", "shop").stdout
    assert run("catalog", "list", "--product", "TAPES").stdout == "no grant matches\n"
    failed = run("catalog", "revoke", "TAPES", "shop")
    assert isinstance(failed.exception, NotGranted)


def test_a_product_that_was_not_exported_cannot_be_registered(run: Callable[..., Result]) -> None:
    """The message says what to do first."""
    failed = run("catalog", "register", "TAPES")
    assert isinstance(failed.exception, NotPublished)


def test_products_tables_and_grants_outlast_a_restart(tmp_path: Path) -> None:
    """The emulator stores them in files; a revoked grant is revoked after a restart."""
    port = free_port()
    with aws_emulator(port, tmp_path) as url:
        s3 = sdk_client("s3", "us-east-1", url)
        contract = made("users", s3)
        catalog = Catalog.connect("us-east-1", url)
        catalog.register(contract, published(s3, contract, "u1"))
        for _ in range(4):
            newest = published(s3, contract, "u2")
        catalog.grant(contract.name, "recommender", ["subscription"])
        catalog.grant(contract.name, "analytics")
        catalog.revoke(contract.name, "analytics")
        before = catalog.describe(contract.name)
    with aws_emulator(port, tmp_path) as url:
        catalog = Catalog.connect("us-east-1", url)
        assert catalog.describe(contract.name) == before
        opened = catalog.open_product(contract.name, "recommender")
        assert opened.manifest.version == newest.version
        assert list(opened.reader(sdk_client("s3", "us-east-1", url)).rows()) == [
            {"subscription": "x"}
        ]
        with pytest.raises(NotGranted):
            catalog.open_product(contract.name, "analytics")
        catalog.revoke(contract.name, "recommender")
        catalog.register(contract, published(sdk_client("s3", "us-east-1", url), contract, "u4"))
    assert json.loads((tmp_path / "lake-formation.json").read_text())["grants"]
