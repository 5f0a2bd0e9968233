"""`tunemesh schemas check`, and what diff says of two schemas."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from click.testing import CliRunner

from cli import connections
from cli import schemas as schemas_commands
from cli.schemas import compare, field_changes, schemas
from connectors.glue.registry import RegisteredVersion
from schemas.model import BUILT_IN_FOLDER, Contract, Contracts, SchemaVersion, load_contracts

SONGS = load_contracts()["songs"]


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": list(fields)}


def second(contract: Contract, *fields: dict[str, Any]) -> SchemaVersion:
    avro = contract.newest.avro
    avro["fields"] += fields
    return SchemaVersion(2, json.dumps(avro))


def registered(*versions: SchemaVersion) -> list[RegisteredVersion]:
    return [RegisteredVersion(v.number, UUID(int=v.number), v.definition) for v in versions]


def test_check_lists_every_contract_and_needs_no_network() -> None:
    """One line per contract."""
    result = CliRunner().invoke(schemas, ["check"])
    for contract in load_contracts():
        assert contract.name in result.output


def test_check_fails_with_each_problem_on_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code stops a build."""
    folder = tmp_path / "contracts"
    shutil.copytree(BUILT_IN_FOLDER, folder)
    shutil.rmtree(folder / "songs" / "examples" / "invalid")
    contracts = load_contracts((folder,))
    monkeypatch.setattr(schemas_commands, "read_contracts", lambda: (contracts, []))
    result = CliRunner().invoke(schemas, ["check"])
    assert result.exit_code != 0
    assert "songs: there is no example in examples/invalid" in result.output
    assert "all contracts are valid" not in result.output


def check_songs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Any]
) -> tuple[int, list[str]]:
    """Exit code and lines of the check of changed songs, each line from its place in the file on.

    The contract is in a folder of the user, as TUNEMESH_CONTRACTS has it.
    """
    folder = tmp_path / "mesh" / "audiobooks"
    shutil.copytree(BUILT_IN_FOLDER / "songs", folder)
    (folder / "songs.v1.avsc").rename(folder / "audiobooks.v1.avsc")
    text = yaml.safe_load((folder / "contract.yaml").read_text())
    text["name"] = text["schema"][0]["physicalName"] = "audiobooks"
    text["servers"][1]["location"] = "s3://audiobooks/product/"
    custom = {entry["property"]: entry for entry in text["customProperties"]}
    custom["catalogTable"]["value"] = "audiobooks.audiobooks"
    custom["item"]["value"]["type"] = "audiobook"
    change(text)
    (folder / "contract.yaml").write_text(yaml.safe_dump(text))
    monkeypatch.setenv("TUNEMESH_CONTRACTS", str(tmp_path / "mesh"))
    result = CliRunner().invoke(schemas, ["check"])
    prefix = f"{folder}/contract.yaml: "
    lines = [line.removeprefix(prefix) for line in result.output.splitlines() if prefix in line]
    return result.exit_code, lines


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.update(apiVersion="v3.1.0", team={"members": text["team"]}), []),
        (lambda text: text["team"][0].update(favouriteColour="blue"), []),
        (
            lambda text: [text.pop(name) for name in ("version", "status")],
            [
                "'version' is missing; the standard requires it",
                "'status' is missing; the standard requires it",
            ],
        ),
        (
            lambda text: text.update(version=1.0),
            ["version: is 1.0, expected text; put it in quotes"],
        ),
        (lambda text: text.update(tags="books"), ["tags is 'books', expected a list of texts"]),
        (
            lambda text: text.update(colour="blue"),
            ["has properties that the standard does not have: colour"],
        ),
        (lambda text: text.update(kind="Contract"), ["kind: is 'Contract', expected one of DataC"]),
        (
            lambda text: text["schema"][0].update(properties=[{"primaryKey": "yes"}]),
            [
                "schema: the topic has no properties",
                "schema[0].properties[0].primaryKey: is 'yes', expected true or false",
                "schema[0].properties[0]: 'name' is missing; the standard requires it",
            ],
        ),
    ],
    ids=["3.1", "3.0 is open", "required", "number", "tags", "unknown", "enum", "nested"],
)
def test_a_contract_is_compared_with_the_standard(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], Any],
    expected: list[str],
) -> None:
    """A sentence for each fault, with file and place, and none twice."""
    exit_code, lines = check_songs(tmp_path, monkeypatch, change)
    assert [line[: len(text)] for line, text in zip(lines, expected, strict=True)] == expected
    assert (exit_code != 0) is bool(expected)


def test_fields_without_a_column_are_named_and_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data product leaves them out."""
    contract = replace(SONGS, versions=(second(SONGS, {"name": "cover", "type": "bytes"}),))
    others = {one.name: one for one in load_contracts()}
    contracts = Contracts({**others, "songs": contract})
    monkeypatch.setattr(schemas_commands, "read_contracts", lambda: (contracts, []))
    result = CliRunner().invoke(schemas, ["check"])
    assert "songs: the data product has no column for cover" in result.output


def test_fields_are_compared_by_path() -> None:
    """Added, removed, changed; inside records, unions and arrays too."""
    inner = {"type": "record", "name": "N", "fields": [{"name": "x", "type": "int"}]}
    wider = {"type": "record", "name": "N", "fields": [{"name": "x", "type": "long"}]}
    before = record(
        {"name": "gone", "type": "string"},
        {"name": "kept", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "n", "type": ["null", inner]},
    )
    after = record(
        {"name": "kept", "type": "string", "default": "", "doc": "new words"},
        {"name": "at", "type": "long"},
        {"name": "n", "type": ["null", wider]},
        {"name": "new", "type": ["null", {"type": "array", "items": "string"}], "default": None},
    )
    assert list(field_changes(before, after)) == [
        "- gone: string",
        '~ kept: string -> string, default ""',
        "~ at: long (timestamp-millis) -> long",
        "~ n.x: int -> long",
        "+ new: null | array of string, default null",
    ]


def test_white_space_is_no_difference() -> None:
    """Definitions are compared as JSON."""
    spaced = SchemaVersion(1, json.dumps(SONGS.newest.avro, indent=2))
    found = compare(SONGS, registered(spaced), "FULL_ALL")
    assert found.text() == "songs: the same, 1 version"
    assert found.is_registrable


def test_a_version_in_the_registry_only_is_a_problem() -> None:
    """The folder is incomplete."""
    other = second(SONGS, {"name": "bpm", "type": "int", "default": 1})
    found = compare(SONGS, registered(*SONGS.versions, other), "FULL_ALL")
    assert not found.is_registrable
    assert found.text().splitlines() == [
        "songs: differs, 1 version",
        f"  refused: version 2 of the registry ({UUID(int=2)}) is in no file",
    ]


def test_a_compatible_version_and_another_mode_are_changes() -> None:
    """`register` would apply them."""
    version = second(SONGS, {"name": "bpm", "type": "int", "default": 1})
    both = replace(SONGS, versions=(*SONGS.versions, version), compatibility="FULL")
    found = compare(both, registered(*SONGS.versions), "FULL_ALL")
    assert found.is_registrable
    assert found.text().splitlines() == [
        "songs: v2 not registered, FULL compatible",
        "  v2: + bpm: int, default 1",
        "  compatibility: FULL_ALL -> FULL",
    ]


def test_without_options_the_registry_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """On its own port; a region alone means AWS."""
    monkeypatch.setenv("TUNEMESH_AWS_PORT", "25123")
    monkeypatch.setattr(connections, "require_reachable", lambda *_: None)
    assert connections.Mesh(None, None).endpoint_url == "http://127.0.0.1:25123"
    aws = connections.Mesh("eu-west-1", None)
    assert (aws.region, aws.endpoint_url) == ("eu-west-1", None)
    assert connections.Mesh(None, "http://127.0.0.1:1").endpoint_url == "http://127.0.0.1:1"


def test_a_copied_contract_is_told_everything_that_is_still_the_originals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, with the problems of the folders beside it."""
    copy = tmp_path / "mesh" / "audiobooks"
    shutil.copytree(BUILT_IN_FOLDER / "songs", copy)
    missing = tmp_path / "missing"
    monkeypatch.setenv("TUNEMESH_CONTRACTS", f"{copy.parent}:{missing}")
    result = CliRunner().invoke(schemas, ["check"])
    for problem in (
        (
            f"{copy}: there is already a contract 'songs': change the name in contract.yaml, and"
            " those of the schema files (audiobooks.v1.avsc)"
        ),
        f"{copy}: the topic 'songs' belongs to 'songs'",
        "audiobooks: item type 'song' is also that of songs",
        "audiobooks: catalog table 'tunemesh_songs.songs' is also that of songs",
        "audiobooks: S3 location 's3://tunemesh-songs/product/' is also that of songs",
        f"the contracts folder {missing} does not exist",
    ):
        assert problem in result.output.splitlines()
    assert str(result.exception) == "7 problems in the contracts, see above"
