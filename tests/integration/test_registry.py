"""The registry client and `tunemesh schemas` against moto's server over HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner

from cli.schemas import schemas
from connectors.clock import Clock, now_ms
from connectors.glue.registry import GlueRegistry, RegistryError
from deploy.local.settings import PROJECT
from schemas.codec import Decoder, Encoder, UnknownSchemaId
from schemas.invalid import InvalidRecord
from schemas.model import BUILT_IN_FOLDER, Contract, SchemaVersion, load_contracts
from tests.support.ports import free_port
from tests.support.servers import aws_emulator, python_server

CONTRACTS = load_contracts()
SONGS = CONTRACTS["songs"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_port()
    # Not the script `moto_server`: it may not be on the path of the interpreter that runs this.
    main = "from moto.server import main; main()"
    with python_server(["-c", main, "-H", "127.0.0.1", "-p", str(port)], port) as url:
        yield url


@pytest.fixture
def registry(endpoint: str) -> GlueRegistry:
    """A registry that no other test has used."""
    return GlueRegistry.connect("us-east-1", endpoint, f"registry-{uuid4().hex}")


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


def test_an_incompatible_version_is_refused_although_moto_takes_it(
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
    """Somebody else's tool may have registered it; moto compares text when asked for an id."""
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
    assert noticed.wait(30), "the lookup did not notice the outage"
    assert found == []
    with aws_emulator(port, tmp_path):
        asking.join(60)
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


# The command line.


def run(endpoint: str, registry: GlueRegistry, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        schemas,
        [*arguments, "--endpoint-url", endpoint, "--registry", registry.registry_name],
    )
    return result.exit_code, result.output or str(result.exception)


def test_register_and_diff_on_the_command_line(endpoint: str, registry: GlueRegistry) -> None:
    """Before: nothing is registered. After: the same. Twice: nothing new."""
    code, text = run(endpoint, registry, "diff")
    assert (code, text.splitlines()[-1]) == (0, "users: not registered (v1)")
    code, text = run(endpoint, registry, "register")
    assert code == 0
    assert text.count(" registered") == len(CONTRACTS.by_name)
    assert str(registry.version_id(SONGS)) in text
    code, text = run(endpoint, registry, "register")
    assert text.count("unchanged") == len(CONTRACTS.by_name)
    code, text = run(endpoint, registry, "diff", "songs")
    assert (code, text) == (0, "songs: the same, 1 version\n")


def test_diff_shows_what_the_folder_has_more(
    endpoint: str, registry: GlueRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Field by field, and whether it could be registered."""
    registry.register(SONGS)
    books = tmp_path / "contracts"
    shutil.copytree(BUILT_IN_FOLDER, books)
    avro = with_field(SONGS, name="bpm", type="int").newest.avro
    (books / "songs" / "songs.v2.avsc").write_text(json.dumps(avro))
    monkeypatch.setattr("cli.schemas.load_contracts", lambda: load_contracts((books,)))
    code, text = run(endpoint, registry, "diff", "songs")
    assert code == 1
    assert text.splitlines() == [
        "songs: v2 not registered, not compatible",
        "  v2: + bpm: int",
        (
            "  refused: v2: bpm: has no default and is not written by version 1"
            " (the new version could not read version 1)"
        ),
    ]
    code, text = run(endpoint, registry, "register")
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
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"aws does not answer at {address}" in result.stderr
    assert "tunemesh up aws" in result.stderr
