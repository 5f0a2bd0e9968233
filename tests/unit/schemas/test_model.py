"""The contracts of this repository hold, and a broken one is refused with its file and remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from schemas import checks
from schemas.codec import Encoder
from schemas.invalid import InvalidRecord
from schemas.model import (
    BUILT_IN_FOLDER,
    ContractError,
    Contracts,
    Role,
    contract_folders,
    load_contracts,
)
from schemas.rules import missing_identifier

Json = dict[str, Any]


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    """A copy of the repository's contracts, to be broken."""
    folder = tmp_path / "contracts"
    shutil.copytree(BUILT_IN_FOLDER, folder)
    return folder


def load(folder: Path) -> Contracts:
    return load_contracts((folder,))


def edit_yaml(path: Path, change: Callable[[Json], Any]) -> None:
    text = yaml.safe_load(path.read_text())
    change(text)
    path.write_text(yaml.safe_dump(text))


def set_property(folder: Path, contract: str, name: str, value: Any) -> None:
    """Change a custom property of a contract; None removes it."""

    def change(text: Json) -> None:
        kept = [entry for entry in text["customProperties"] if entry["property"] != name]
        if value is not None:
            kept.append({"property": name, "value": value})
        text["customProperties"] = kept

    edit_yaml(folder / contract / "contract.yaml", change)


def edit_schema(path: Path, change: Callable[[list[Json]], Any]) -> None:
    avro = json.loads(path.read_text())
    change(avro["fields"])
    path.write_text(json.dumps(avro))


def item_mapping(folder: Path, contract: str) -> Json:
    text = yaml.safe_load((folder / contract / "contract.yaml").read_text())
    found: Json = next(e["value"] for e in text["customProperties"] if e["property"] == "item")
    return found


def problems(folder: Path) -> list[str]:
    """What `tunemesh schemas check` says of a folder."""
    return [f"{problem.contract}: {problem.what}" for problem in checks.check(load(folder))]


# This repository's contracts.


@pytest.mark.parametrize("contract", list(load_contracts()), ids=lambda contract: contract.name)
def test_a_contract_of_this_repository_is_in_order(contract: Any) -> None:
    """Examples valid and invalid as they say, versions in line, mappings typed, no stray file."""
    assert checks.check_contract(contract) == []


def test_the_contracts_of_this_repository_fit_together() -> None:
    """Roles, unique names, dead letters that hold any record, enriched records that fit."""
    assert checks.check(load_contracts()) == []


def test_there_is_a_contract_a_topic_of_the_mesh() -> None:
    """The topics that DESIGN.md names."""
    contracts = load_contracts()
    assert {contract.topic for contract in contracts} == {
        "users",
        "songs",
        "podcasts",
        "interactions",
        "interactions-enriched",
        "dead-letters",
        "deletions",
        "trends",
    }
    assert {contract.name for contract in contracts.sources} == {
        "users",
        "songs",
        "podcasts",
        "interactions",
    }
    assert contracts.for_topic("songs") is contracts["songs"]


def test_invalid_examples_fail_for_the_reason_in_their_name() -> None:
    """missing_id is written without complaint and has no identifier; the others cannot be written.

    A missing id must not be taken for a wrong type: the reasons are what people search for.
    """
    for contract in load_contracts():
        encoder = Encoder(contract, UUID(int=1))
        for name, record in contract.examples("invalid").items():
            if name == "missing_id":
                assert encoder.encode(record)
                assert missing_identifier(contract, record) is not None
            else:
                with pytest.raises(InvalidRecord):
                    encoder.encode(record)


# A new domain is a folder.


def test_a_new_item_domain_is_a_folder_and_no_code(mesh: Path) -> None:
    """Topic, subject, mapping and identifier follow from it."""
    books = mesh / "audiobooks"
    shutil.copytree(mesh / "songs", books)
    (books / "songs.v1.avsc").rename(books / "audiobooks.v1.avsc")
    edit_yaml(books / "contract.yaml", lambda text: text.update(name="audiobooks"))
    edit_yaml(
        books / "contract.yaml", lambda text: text["schema"][0].update(physicalName="audiobooks")
    )
    edit_yaml(
        books / "contract.yaml",
        lambda text: text["servers"][1].update(location="s3://audiobooks/product/"),
    )
    set_property(mesh, "audiobooks", "catalogTable", "audiobooks.audiobooks")
    set_property(mesh, "audiobooks", "item", {**item_mapping(mesh, "songs"), "type": "audiobook"})
    contracts = load(mesh)
    assert [one for one in problems(mesh) if one.startswith("audiobooks")] == []
    assert contracts["audiobooks"].subject == "audiobooks"
    assert contracts.for_topic("audiobooks").item is not None
    assert [contract.name for contract in contracts.with_role(Role.ITEM)] == [
        "audiobooks",
        "podcasts",
        "songs",
    ]


def test_more_folders_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TUNEMESH_CONTRACTS is a path list beside the built-in contracts."""
    monkeypatch.setenv("TUNEMESH_CONTRACTS", f"{tmp_path}/a:{tmp_path}/b")
    assert contract_folders() == (BUILT_IN_FOLDER, tmp_path / "a", tmp_path / "b")


# Folders that cannot be used at all: an error that names the file.


def _duplicate_topic(mesh: Path) -> None:
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text["schema"][0].update(physicalName="podcasts"))


def _second_of_a_name(mesh: Path) -> None:
    shutil.copytree(mesh / "songs", mesh / "songs-again")


def _gap(mesh: Path) -> None:
    (mesh / "songs" / "songs.v1.avsc").rename(mesh / "songs" / "songs.v2.avsc")


def _no_versions(mesh: Path) -> None:
    (mesh / "songs" / "songs.v1.avsc").unlink()


def _misnamed_schema(mesh: Path) -> None:
    shutil.copy(mesh / "songs" / "songs.v1.avsc", mesh / "songs" / "song.v2.avsc")


def _schema_is_no_json(mesh: Path) -> None:
    (mesh / "songs" / "songs.v1.avsc").write_text("{")


def _schema_is_no_record(mesh: Path) -> None:
    (mesh / "songs" / "songs.v1.avsc").write_text('{"type": "string"}')


def _bad_role(mesh: Path) -> None:
    set_property(mesh, "songs", "role", "song")


def _no_max_bytes(mesh: Path) -> None:
    set_property(mesh, "songs", "maxBytes", None)


def _no_retention(mesh: Path) -> None:
    edit_yaml(mesh / "songs" / "contract.yaml", lambda text: text.update(slaProperties=[]))


def _bad_compatibility(mesh: Path) -> None:
    set_property(mesh, "songs", "compatibility", "SIDEWAYS")


def _bad_topic(mesh: Path) -> None:
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text["schema"][0].update(physicalName="my songs"))


def _mapping_of_no_field(mesh: Path) -> None:
    set_property(mesh, "songs", "item", {**item_mapping(mesh, "songs"), "title": "name"})


def _mapping_with_a_typo(mesh: Path) -> None:
    set_property(mesh, "songs", "item", {**item_mapping(mesh, "songs"), "genre": "genres"})


def _mapping_without_id(mesh: Path) -> None:
    set_property(mesh, "songs", "item", {"type": "song", "title": "title"})


def _mapping_in_minutes(mesh: Path) -> None:
    duration = {"field": "duration_seconds", "unit": "min"}
    set_property(mesh, "songs", "item", {**item_mapping(mesh, "songs"), "duration": duration})


def _no_yaml(mesh: Path) -> None:
    (mesh / "songs" / "contract.yaml").write_text("{")


UNUSABLE: dict[Callable[[Path], None], tuple[str, str]] = {
    _duplicate_topic: ("songs", "'podcasts' belongs to 'podcasts'"),
    _second_of_a_name: ("songs-again", "already a contract 'songs'"),
    _gap: ("songs", "without a gap"),
    _no_versions: ("songs", "v1, v2"),
    _misnamed_schema: ("songs/song.v2.avsc", "named songs.v<N>.avsc"),
    _schema_is_no_json: ("songs/songs.v1.avsc", "not an Avro record schema"),
    _schema_is_no_record: ("songs/songs.v1.avsc", "not an Avro record schema"),
    _bad_role: ("songs/contract.yaml", "'song' is not a valid Role"),
    _no_max_bytes: ("songs/contract.yaml", "'maxBytes' is missing"),
    _no_retention: ("songs/contract.yaml", "needs retention in slaProperties"),
    _bad_compatibility: ("songs/contract.yaml", "expected one of NONE, BACKWARD"),
    _bad_topic: ("songs/contract.yaml", "'my songs' is not a topic name"),
    _mapping_of_no_field: ("songs/contract.yaml", "names the field 'name', which songs.v1.avsc"),
    _mapping_with_a_typo: ("songs/contract.yaml", "has 'genre', which is none of type, item_id"),
    _mapping_without_id: ("songs/contract.yaml", "needs 'item_id'"),
    _mapping_in_minutes: ("songs/contract.yaml", "'min', expected s or ms"),
    _no_yaml: ("songs/contract.yaml", "ParserError"),
}


@pytest.mark.parametrize("break_it", UNUSABLE, ids=lambda function: function.__name__.strip("_"))
def test_an_unusable_folder_is_named_with_what_to_change(
    mesh: Path, break_it: Callable[[Path], None]
) -> None:
    """One ContractError, never a KeyError from inside."""
    where, what = UNUSABLE[break_it]
    break_it(mesh)
    with pytest.raises(ContractError) as caught:
        load(mesh)
    # Two contracts share the blame for a topic; the one that is read later is named.
    assert where in str(caught.value)
    assert what in str(caught.value)


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    """A typo in TUNEMESH_CONTRACTS."""
    with pytest.raises(ContractError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    """For the command line."""
    contracts = load_contracts()
    with pytest.raises(ContractError, match="there are: dead-letters, deletions"):
        contracts["song"]
    with pytest.raises(ContractError, match="topics: dead-letters"):
        contracts.for_topic("song")
    with pytest.raises(ContractError, match="podcasts, songs"):
        contracts.only(Role.ITEM)


# Contracts that load, and would fail later: what the check says.


def _incompatible_second_version(mesh: Path) -> None:
    second = mesh / "songs" / "songs.v2.avsc"
    shutil.copy(mesh / "songs" / "songs.v1.avsc", second)
    edit_schema(second, lambda fields: fields.append({"name": "bpm", "type": "int"}))


def _invalid_example_is_valid(mesh: Path) -> None:
    folder = mesh / "songs" / "examples"
    shutil.copy(folder / "valid" / "rock.json", folder / "invalid" / "rock.json")


def _valid_example_is_invalid(mesh: Path) -> None:
    folder = mesh / "songs" / "examples"
    shutil.copy(folder / "invalid" / "missing_id.json", folder / "valid" / "missing_id.json")


def _no_examples(mesh: Path) -> None:
    shutil.rmtree(mesh / "songs" / "examples" / "invalid")


def _example_is_no_json(mesh: Path) -> None:
    (mesh / "songs" / "examples" / "valid" / "rock.json").write_text("{")


def _stray_example(mesh: Path) -> None:
    (mesh / "songs" / "examples" / "rock.json").write_text("{}")


def _key_is_no_field(mesh: Path) -> None:
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text["schema"][0]["properties"][0].update(name="id"))


def _pii_of_no_field(mesh: Path) -> None:
    set_property(mesh, "users", "pii", {"default": "internal", "fields": {"email": "personal"}})


def _genres_is_text(mesh: Path) -> None:
    set_property(mesh, "songs", "item", {**item_mapping(mesh, "songs"), "genres": "title"})


def _title_may_be_null(mesh: Path) -> None:
    set_property(mesh, "songs", "item", {**item_mapping(mesh, "songs"), "title": "artist"})


def _updated_is_no_timestamp(mesh: Path) -> None:
    mapping = {**item_mapping(mesh, "songs"), "updated": "duration_seconds"}
    set_property(mesh, "songs", "item", mapping)


def _same_item_type(mesh: Path) -> None:
    set_property(mesh, "songs", "item", {**item_mapping(mesh, "songs"), "type": "podcast"})


def _same_catalog_table(mesh: Path) -> None:
    set_property(mesh, "songs", "catalogTable", "tunemesh_podcasts.podcasts")


def _sources_outgrow_dead_letters(mesh: Path) -> None:
    set_property(mesh, "songs", "maxBytes", 2 * 1024 * 1024)


def _dead_letters_shrink(mesh: Path) -> None:
    set_property(mesh, "dead-letters", "maxBytes", 65_536)


def _sources_outlive_dead_letters(mesh: Path) -> None:
    path = mesh / "interactions" / "contract.yaml"
    edit_yaml(
        path,
        lambda text: text.update(slaProperties=[{"property": "retention", "value": "P31D"}]),
    )


def _retention_in_words(mesh: Path) -> None:
    path = mesh / "interactions" / "contract.yaml"
    edit_yaml(
        path,
        lambda text: text.update(slaProperties=[{"property": "retention", "value": "a week"}]),
    )


def _enriched_is_too_small(mesh: Path) -> None:
    set_property(mesh, "interactions-enriched", "maxBytes", 10_240)


def _no_users(mesh: Path) -> None:
    shutil.rmtree(mesh / "users")


DOUBTFUL: dict[Callable[[Path], None], str] = {
    _incompatible_second_version: "songs: songs.v2.avsc: bpm: has no default and is not written by",
    _invalid_example_is_valid: "songs: examples/invalid/rock.json: is valid",
    _valid_example_is_invalid: "songs: examples/valid/missing_id.json: missing_id: song_id is",
    _no_examples: "songs: there is no example in examples/invalid",
    _example_is_no_json: "rock.json: not an example record",
    _stray_example: "examples/rock.json is read by nothing",
    _key_is_no_field: "songs: the key 'id' is not a field",
    _pii_of_no_field: "users: the PII class of 'email'",
    _genres_is_text: "genres is mapped to 'title', a string; expected array of string",
    _title_may_be_null: "title is mapped to 'artist', which may be null",
    _updated_is_no_timestamp: "'duration_seconds', a int; expected timestamp-millis",
    _same_item_type: "songs: item type 'podcast' is also that of podcasts",
    _same_catalog_table: "songs: catalog table 'tunemesh_podcasts.podcasts' is also that of pod",
    _sources_outgrow_dead_letters: "dead-letters: maxBytes is 2097152: a whole record of songs",
    _dead_letters_shrink: "dead-letters: maxBytes is 65536, dead letters are limited to 2097152",
    _sources_outlive_dead_letters: "retention is P30D, shorter than that of interactions (P31D)",
    _retention_in_words: "interactions: retention is 'a week', expected compact or days",
    _enriched_is_too_small: "interactions-enriched: maxBytes is 10240: the largest event",
    _no_users: "exactly one contract must have the role user, found: none",
}


@pytest.mark.parametrize("break_it", DOUBTFUL, ids=lambda function: function.__name__.strip("_"))
def test_the_check_finds_what_would_fail_later(
    mesh: Path, break_it: Callable[[Path], None]
) -> None:
    """Each before anything is registered or started."""
    before = problems(mesh)
    load_contracts.cache_clear()
    break_it(mesh)
    found = [one for one in problems(mesh) if one not in before]
    assert any(DOUBTFUL[break_it] in one for one in found), found


def test_a_folder_without_a_contract_is_not_passed_over(mesh: Path) -> None:
    """Schema files without a contract.yaml: it is missing or misspelt."""
    (mesh / "songs" / "contract.yaml").rename(mesh / "songs" / "contract.yml")
    with pytest.raises(ContractError, match=r"songs.*contract\.yaml"):
        load(mesh)
