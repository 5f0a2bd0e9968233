"""The registry client, other clients and `tunemesh schemas` against the emulator over HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from cli.schemas import schemas
from connectors.clock import Clock, now_ms
from connectors.glue.registry import GlueRegistry, RegistryError
from deploy.local.settings import PROJECT
from schemas.codec import Decoder, Encoder, UnknownSchemaId
from schemas.invalid import InvalidRecord
from schemas.model import BUILT_IN_FOLDER, Contract, SchemaVersion, load_contracts
from tests.support.ports import free_port
from tests.support.servers import aws_emulator
from tests.support.waiting import LIMIT_SECONDS

CONTRACTS = load_contracts()
SONGS = CONTRACTS["songs"]


@pytest.fixture
def registry(aws: str) -> Iterator[GlueRegistry]:
    """A registry that no other test has used; an account may have ten."""
    found = GlueRegistry.connect("us-east-1", aws, f"registry-{uuid4().hex}")
    yield found
    for entry in found._client.list_registries()["Registries"]:
        found._client.delete_registry(RegistryId={"RegistryName": entry["RegistryName"]})


def with_field(contract: Contract, **field: Any) -> Contract:
    """The contract with one more version, which has one more field."""
    avro = contract.newest.avro
    avro["fields"].append(field)
    version = SchemaVersion(contract.newest.number + 1, json.dumps(avro))
    return replace(contract, versions=(*contract.versions, version))


def test_every_contract_is_registered_once(registry: GlueRegistry) -> None:
    """The second time changes nothing and answers the same ids."""
    first = [registry.register(contract) for contract in CONTRACTS]
    second = [registry.register(contract) for contract in CONTRACTS]
    assert all(done.created for dones in first for done in dones)
    assert not any(done.created for dones in second for done in dones)
    assert [[d[:2] for d in dones] for dones in first] == [
        [d[:2] for d in dones] for dones in second
    ]
    for contract, dones in zip(CONTRACTS, first, strict=True):
        assert registry.version_id(contract) == dones[-1].version_id
        assert registry.registered_versions(contract) == [
            (done.number, done.version_id, version.definition)
            for done, version in zip(dones, contract.versions, strict=True)
        ]


def test_a_record_written_with_a_registered_id_is_read_by_it(registry: GlueRegistry) -> None:
    """Register, encode, decode: the way of every record, the older version included."""
    both = with_field(SONGS, name="bpm", type="int", default=120)
    first, second = registry.register(both)
    record = SONGS.examples("valid")["rock"]
    decoder = Decoder(both, registry)
    old = Encoder(SONGS, first.version_id).encode(record)
    assert decoder.decode(old)["bpm"] == 120
    new = Encoder(both, second.version_id).encode({**record, "bpm": 90})
    assert decoder.decode(new)["bpm"] == 90
    assert registry.by_id(first.version_id.bytes).subject == "songs"
    assert registry.version_id(both, 1) == first.version_id


def test_an_incompatible_version_is_refused_although_the_emulator_takes_it(
    registry: GlueRegistry,
) -> None:
    """The gate is ours; without it the version would be there."""
    registry.register(SONGS)
    bad = with_field(SONGS, name="bpm", type="int")
    with pytest.raises(RegistryError, match=r"songs\.v2 is not FULL_ALL compatible.*bpm: has no"):
        registry.register(bad)
    assert len(registry.registered_versions(SONGS)) == 1
    taken = registry._client.register_schema_version(
        SchemaId={"RegistryName": registry.registry_name, "SchemaName": "songs"},
        SchemaDefinition=bad.newest.definition,
    )
    assert taken["Status"] == "AVAILABLE"


def test_nothing_is_registered_when_a_later_version_is_incompatible(
    registry: GlueRegistry,
) -> None:
    """The gate looks at the whole folder before the first write."""
    with pytest.raises(RegistryError, match="nothing was registered"):
        registry.register(with_field(SONGS, name="bpm", type="int"))
    assert registry.registered_versions(SONGS) == []


def test_a_definition_with_other_white_space_is_the_same_version(registry: GlueRegistry) -> None:
    """Somebody else's tool may have registered it."""
    [done] = registry.register(SONGS)
    spaced = json.dumps(SONGS.newest.avro, indent=4, sort_keys=True)
    other = replace(SONGS, versions=(SchemaVersion(1, spaced),))
    assert registry.version_id(other) == done.version_id
    assert registry.register(other) == [(1, done.version_id, False)]


def test_the_contracts_compatibility_is_set_in_the_registry(registry: GlueRegistry) -> None:
    """On AWS it is what Glue itself checks by."""
    registry.register(SONGS)
    assert registry.registered_compatibility(SONGS) == "FULL_ALL"
    changed = with_field(replace(SONGS, compatibility="FULL"), name="b", type="int", default=1)
    registry.register(changed)
    assert registry.registered_compatibility(SONGS) == "FULL"


def test_what_is_not_there_is_told_with_what_to_do(registry: GlueRegistry) -> None:
    """No registry, no schema, no version of that definition, no such id."""
    assert registry.registered_versions(SONGS) == []
    with pytest.raises(RegistryError, match=r"songs\.v1 is not registered.*schemas register"):
        registry.version_id(SONGS)
    registry.register(SONGS)
    with pytest.raises(RegistryError, match=r"songs\.v2 is not registered"):
        registry.version_id(with_field(SONGS, name="b", type="int", default=1))
    with pytest.raises(UnknownSchemaId):
        registry.by_id(UUID(int=77).bytes)


def test_a_lookup_outlasts_an_outage(tmp_path: Path) -> None:
    """The registry is down when the record comes, and back later: found, not a dead letter."""
    port = free_port()
    noticed = threading.Event()
    found: list[str] = []

    def sleep(seconds: float) -> None:
        noticed.set()
        time.sleep(0.05)

    # The emulator, which keeps its data; moto alone does not.
    with aws_emulator(port, tmp_path) as url:
        before = GlueRegistry.connect("us-east-1", url)
        [done] = before.register(SONGS)
    registry = GlueRegistry(before._client, clock=Clock(sleep=sleep))

    asking = threading.Thread(
        target=lambda: found.append(registry.by_id(done.version_id.bytes).subject), daemon=True
    )
    asking.start()
    assert noticed.wait(LIMIT_SECONDS), "the lookup did not notice the outage"
    assert found == []
    with aws_emulator(port, tmp_path):
        asking.join(LIMIT_SECONDS)
    assert found == ["songs"]


def test_records_outlast_the_schema_that_they_were_written_with(registry: GlueRegistry) -> None:
    """Deleted, or deleted and registered again under another id: they are read, not refused."""
    [former] = registry.register(SONGS)
    published_ms = now_ms()
    value = Encoder(SONGS, former.version_id).encode(SONGS.examples("valid")["rock"])
    glue, name = registry._client, registry.registry_name
    glue.delete_schema(SchemaId={"RegistryName": name, "SchemaName": "songs"})
    # Each a new process, which has not seen the former version.
    deleted = Decoder(SONGS, GlueRegistry(glue, name))
    assert deleted.decode(value, published_ms)["title"] == "MALICE MIZER"
    [new] = registry.register(SONGS)
    assert new.version_id != former.version_id
    again = Decoder(SONGS, GlueRegistry(glue, name))
    assert again.decode(value, published_ms)["title"] == "MALICE MIZER"
    with pytest.raises(InvalidRecord, match=f"no schema version {former.version_id}"):
        again.decode(value, now_ms())


# Other clients.


def schema_id(registry: GlueRegistry, name: str = "songs") -> dict[str, str]:
    return {"RegistryName": registry.registry_name, "SchemaName": name}


@pytest.mark.parametrize(
    "change",
    [
        lambda avro: avro,
        lambda avro: {**avro, "doc": "Other words."},
        lambda avro: {**without_namespace(avro), "name": f"{avro['namespace']}.{avro['name']}"},
        lambda avro: {**avro, "fields": [reordered(field) for field in avro["fields"]]},
        lambda avro: json.loads(json.dumps(avro).replace('"string"', JAVA_STRING)),
    ],
    ids=["compact", "doc", "full name", "order", "as generated by Java"],
)
def test_a_schema_is_found_however_a_library_prints_it(
    registry: GlueRegistry, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """The service compares canonical forms, so a serializer finds what was registered as a file."""
    [done] = registry.register(SONGS)
    text = json.dumps(change(SONGS.newest.avro), separators=(",", ":"))
    found = registry._client.get_schema_by_definition(
        SchemaId=schema_id(registry), SchemaDefinition=text
    )
    assert (found["SchemaVersionId"], found["Status"]) == (str(done.version_id), "AVAILABLE")
    assert found["DataFormat"] == "AVRO"


JAVA_STRING = '{"type": "string", "avro.java.string": "String"}'


def without_namespace(avro: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in avro.items() if name != "namespace"}


def reordered(field: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(field.items()))


def test_of_two_equal_forms_the_nearer_text_is_found(registry: GlueRegistry) -> None:
    """Versions that differ in a default alone have one canonical form."""
    both = with_field(SONGS, name="bpm", type="int", default=120)
    changed = json.loads(both.newest.definition.replace("120", "90"))
    third = replace(both, versions=(*both.versions, SchemaVersion(3, json.dumps(changed))))
    registered = registry.register(third)
    for done, version in zip(registered, third.versions, strict=True):
        found = registry._client.get_schema_by_definition(
            SchemaId=schema_id(registry), SchemaDefinition=json.dumps(version.avro, indent=3)
        )
        assert found["SchemaVersionId"] == str(done.version_id)


def test_the_calls_of_the_python_serializer_of_pypi(registry: GlueRegistry) -> None:
    """aws-glue-schema-registry 1.1.3 creates and registers by the words of the errors."""
    glue, name = registry._client, registry.registry_name
    glue.create_registry(RegistryName=name, Description="made by a client")
    definition = json.dumps(SONGS.newest.avro)

    def by_definition(text: str) -> dict[str, Any]:
        found: dict[str, Any] = glue.get_schema_by_definition(
            SchemaId={"SchemaName": "songs", "RegistryName": name}, SchemaDefinition=text
        )
        return found

    with pytest.raises(glue.exceptions.EntityNotFoundException, match="Schema is not found"):
        by_definition(definition)
    created = glue.create_schema(
        SchemaName="songs",
        RegistryId={"RegistryName": name},
        DataFormat="AVRO",
        Compatibility="BACKWARD",
        Description="",
        Tags={},
        SchemaDefinition=definition,
    )
    newer = with_field(SONGS, name="bpm", type="int", default=120).newest.definition
    absent = pytest.raises(
        glue.exceptions.EntityNotFoundException, match="Schema version is not found"
    )
    with absent:
        by_definition(newer)
    registered = glue.register_schema_version(
        SchemaId={"SchemaName": "songs", "RegistryName": name}, SchemaDefinition=newer
    )
    assert (registered["VersionNumber"], registered["Status"]) == (2, "AVAILABLE")
    version = glue.get_schema_version(SchemaVersionId=registered["SchemaVersionId"])
    assert (version["SchemaDefinition"], version["DataFormat"]) == (newer, "AVRO")
    assert (version["VersionNumber"], version["Status"]) == (2, "AVAILABLE")
    assert version["SchemaArn"].endswith(f"{name}/songs")
    glue.put_schema_version_metadata(
        SchemaVersionId=created["SchemaVersionId"],
        MetadataKeyValue={"MetadataKey": "team", "MetadataValue": "radio"},
    )
    metadata = glue.query_schema_version_metadata(SchemaVersionId=created["SchemaVersionId"])
    assert metadata["MetadataInfoMap"]["team"]["MetadataValue"] == "radio"
    with pytest.raises(glue.exceptions.AlreadyExistsException):
        glue.create_schema(
            SchemaName="songs", RegistryId={"RegistryName": name}, DataFormat="AVRO",
            Compatibility="BACKWARD", SchemaDefinition=definition,
        )  # fmt: skip


def test_schemas_and_versions_are_listed_in_pages(registry: GlueRegistry) -> None:
    """ListSchemas and ListSchemaVersions, which consoles and tools of other languages call."""
    registry.register(with_field(SONGS, name="bpm", type="int", default=120))
    registry.register(CONTRACTS["users"])
    glue, of_registry = registry._client, {"RegistryName": registry.registry_name}
    pages = glue.get_paginator("list_schemas").paginate(
        RegistryId=of_registry, PaginationConfig={"PageSize": 1}
    )
    listed = [[schema["SchemaName"] for schema in page["Schemas"]] for page in pages]
    assert listed == [["songs"], ["users"]]
    everything = glue.list_schemas()["Schemas"]
    assert {"songs", "users"} <= {
        schema["SchemaName"]
        for schema in everything
        if schema["RegistryName"] == registry.registry_name
    }
    versions = glue.list_schema_versions(SchemaId=schema_id(registry))["Schemas"]
    assert [version["VersionNumber"] for version in versions] == [1, 2]
    with pytest.raises(glue.exceptions.EntityNotFoundException):
        glue.list_schemas(RegistryId={"RegistryName": "none"})


def test_what_is_no_avro_schema_is_refused(registry: GlueRegistry) -> None:
    """At the registration, as by the service, and not when a reader fails."""
    registry.register(SONGS)
    glue = registry._client
    text = '{"type": "record", "name": "Song", "fields": [{"name": "a", "type": "text"}]}'
    invalid = pytest.raises(glue.exceptions.InvalidInputException, match=r"AVRO .* is invalid")
    with invalid:
        glue.register_schema_version(SchemaId=schema_id(registry), SchemaDefinition=text)
    validity = glue.check_schema_version_validity(DataFormat="AVRO", SchemaDefinition=text)
    assert validity["Valid"] is False


def test_an_operation_that_is_not_offered_is_said_and_not_repeated(registry: GlueRegistry) -> None:
    """A 500 would be sent again by every client."""
    with pytest.raises(ClientError, match="does not offer this operation") as refused:
        registry._client.delete_schema_versions(SchemaId=schema_id(registry), Versions="1")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


# The command line.


def run(aws: str, registry: GlueRegistry, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        schemas,
        [*arguments, "--endpoint-url", aws, "--registry", registry.registry_name],
    )
    return result.exit_code, result.output or str(result.exception)


def test_register_and_diff_on_the_command_line(aws: str, registry: GlueRegistry) -> None:
    """Before: nothing is registered. After: the same. Twice: nothing new."""
    code, text = run(aws, registry, "diff")
    assert (code, text.splitlines()[-1]) == (0, "users: not registered (v1)")
    code, text = run(aws, registry, "register")
    assert code == 0
    assert text.count(" registered") == len(CONTRACTS.by_name)
    assert str(registry.version_id(SONGS)) in text
    code, text = run(aws, registry, "register")
    assert text.count("unchanged") == len(CONTRACTS.by_name)
    code, text = run(aws, registry, "diff", "songs")
    assert (code, text) == (0, "songs: the same, 1 version\n")


def test_diff_shows_what_the_folder_has_more(
    aws: str, registry: GlueRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Field by field, and whether it could be registered."""
    registry.register(SONGS)
    books = tmp_path / "contracts"
    shutil.copytree(BUILT_IN_FOLDER, books)
    avro = with_field(SONGS, name="bpm", type="int").newest.avro
    (books / "songs" / "songs.v2.avsc").write_text(json.dumps(avro))
    for module in ("schemas", "parameters"):
        name = f"cli.{module}.load_contracts"
        monkeypatch.setattr(name, lambda: load_contracts((books,)))
    code, text = run(aws, registry, "diff", "songs")
    assert code == 1
    assert text.splitlines() == [
        "songs: v2 not registered, not compatible",
        "  v2: + bpm: int",
        (
            "  refused: v2: bpm: has no default and is not written by version 1"
            " (the new version could not read version 1)"
        ),
    ]
    code, text = run(aws, registry, "register")
    assert code == 1
    assert "songs.v2 is not FULL_ALL compatible" in text
    assert len(registry.registered_versions(SONGS)) == 1


def test_a_registry_that_is_down_is_one_line() -> None:
    """Through the real command: the address, and what to do."""
    address = f"127.0.0.1:{free_port()}"
    url = f"http://{address}"
    result = subprocess.run(
        [sys.executable, "-m", "cli.main", "schemas", "diff", "songs", "--endpoint-url", url],
        check=False,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"aws does not answer at {address}" in result.stderr
    assert "tunemesh up aws" in result.stderr
