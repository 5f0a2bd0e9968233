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
    read_contracts,
    read_yaml,
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


def _owner_has_left(mesh: Path) -> None:
    members = [{"username": "ada", "role": "owner", "dateOut": "2025-01-31"}, {"username": "bob"}]
    edit_yaml(mesh / "songs" / "contract.yaml", lambda text: text.update(team={"members": members}))


def _no_member(mesh: Path) -> None:
    edit_yaml(mesh / "songs" / "contract.yaml", lambda text: text.update(team={"members": []}))


def _topic(name: str) -> Callable[[Path], None]:
    def break_it(mesh: Path) -> None:
        path = mesh / "songs" / "contract.yaml"
        edit_yaml(path, lambda text: text["schema"][0].update(physicalName=name))

    break_it.__name__ = f"topic {name}"
    return break_it


def _role_twice(mesh: Path) -> None:
    path = mesh / "songs" / "contract.yaml"
    role = {"property": "role", "value": "user"}
    edit_yaml(path, lambda text: text["customProperties"].append(role))


def _two_primary_keys(mesh: Path) -> None:
    properties = [{"name": "song_id", "primaryKey": True}, {"name": "title", "primaryKey": True}]
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text["schema"][0].update(properties=properties))


def _no_schema(mesh: Path) -> None:
    edit_yaml(mesh / "songs" / "contract.yaml", lambda text: text.pop("schema"))


def _tags_are_text(mesh: Path) -> None:
    edit_yaml(mesh / "songs" / "contract.yaml", lambda text: text.update(tags="music"))


def _empty_file(mesh: Path) -> None:
    (mesh / "songs" / "contract.yaml").write_text("")


def _custom_properties_as_object(mesh: Path) -> None:
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text.update(customProperties={"role": "item"}))


def _location_is_no_location(mesh: Path) -> None:
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text["servers"][1].update(location="my bucket"))


def _subject_with_a_slash(mesh: Path) -> None:
    set_property(mesh, "songs", "subject", "team/songs")


def _bytes_in_words(mesh: Path) -> None:
    set_property(mesh, "songs", "maxBytes", "64 KB")


def _field_name_breaks_out_of_sql(mesh: Path) -> None:
    name = "x` STRING) WITH ('connector'='blackhole') --"
    edit_schema(
        mesh / "songs" / "songs.v1.avsc",
        lambda fields: fields.append({"name": name, "type": "string", "default": ""}),
    )


UNUSABLE: dict[Callable[[Path], None], tuple[str, str]] = {
    _duplicate_topic: ("songs", "'podcasts' belongs to 'podcasts'"),
    _second_of_a_name: ("songs-again", "already a contract 'songs'"),
    _gap: ("songs", "without a gap"),
    _no_versions: ("songs", "v1, v2"),
    _misnamed_schema: ("songs/song.v2.avsc", "named songs.v<N>.avsc"),
    _schema_is_no_json: ("songs/songs.v1.avsc", "not JSON: Expecting property name"),
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
    _no_yaml: ("songs/contract.yaml", "line 1: not YAML"),
    _owner_has_left: ("songs/contract.yaml", "the owner ada has left (2025-01-31)"),
    _no_member: ("songs/contract.yaml", "team has no member"),
    _topic("."): ("songs/contract.yaml", "'.' is reserved by Kafka"),
    _topic(".."): ("songs/contract.yaml", "'..' is reserved by Kafka"),
    _topic("__consumer_offsets"): ("songs/contract.yaml", "is reserved by Kafka"),
    _role_twice: ("songs/contract.yaml", "customProperties has 'role' twice"),
    _two_primary_keys: ("songs/contract.yaml", "the primary key is song_id, title; a topic has"),
    _no_schema: ("songs/contract.yaml", "schema has no object"),
    _tags_are_text: ("songs/contract.yaml", "tags is 'music', expected a list"),
    _empty_file: ("songs/contract.yaml", "not a data contract"),
    _custom_properties_as_object: ("songs/contract.yaml", "expected a list"),
    _location_is_no_location: ("songs/contract.yaml", "'my bucket', expected s3://"),
    _subject_with_a_slash: ("songs/contract.yaml", "subject is 'team/songs'"),
    _bytes_in_words: ("songs/contract.yaml", "maxBytes is '64 KB', expected a number"),
    _field_name_breaks_out_of_sql: ("songs/songs.v1.avsc", "which is no Avro name"),
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


def test_all_problems_of_all_contracts_are_reported_at_once(mesh: Path) -> None:
    """Each with its file; the other contracts are read."""
    _no_max_bytes(mesh)
    _no_retention(mesh)
    _field_name_breaks_out_of_sql(mesh)
    set_property(mesh, "users", "role", "listener")
    contracts, unusable = read_contracts((mesh,))
    files = [problem.removeprefix(f"{mesh}/").partition(":")[0] for problem in unusable]
    assert files == [
        "songs/contract.yaml",
        "songs/contract.yaml",
        "songs/songs.v1.avsc",
        "users/contract.yaml",
    ]
    assert "podcasts" in contracts.by_name
    assert {"songs", "users"}.isdisjoint(contracts.by_name)


def test_a_contract_named_as_a_folder_of_contracts_is_a_problem(mesh: Path) -> None:
    """It contains no contract, and would be ignored."""
    _, problems = read_contracts((mesh / "songs",))
    assert problems == [f"{mesh / 'songs'} is a contract, expected the folder that contains it"]


# The standard allows several ways to say the same.


@pytest.mark.parametrize(
    "team",
    [
        [{"username": "ada"}],
        {"name": "music", "members": [{"username": "ada", "role": "Owner"}]},
        [{"username": "bob", "role": "steward"}, {"username": "ada", "role": "owner"}],
        [
            {"username": "bob", "role": "owner", "dateOut": "2025-01-31"},
            {"username": "ada", "role": "owner", "dateIn": "2025-02-01"},
        ],
    ],
    ids=["3.0", "3.1", "by role", "successor"],
)
def test_the_owner_is_a_present_member_of_the_team(mesh: Path, team: Any) -> None:
    """The team is a list in 3.0 and an object in 3.1."""
    edit_yaml(mesh / "songs" / "contract.yaml", lambda text: text.update(team=team))
    assert load(mesh)["songs"].owner == "ada"


@pytest.mark.parametrize(
    ("entry", "retention"),
    [
        ({"value": "P7D"}, "P7D"),
        ({"value": 7, "unit": "d"}, "P7D"),
        ({"value": "7", "unit": "days"}, "P7D"),
        ({"value": 7.0, "unit": "Day"}, "P7D"),
        ({"value": "7 days"}, "P7D"),
        ({"value": "7d"}, "P7D"),
        ({"value": 168, "unit": "h"}, "P7D"),
        ({"value": 604_800_000, "unit": "ms"}, "P7D"),
        ({"value": "PT168H"}, "P7D"),
        ({"value": "P1W"}, "P7D"),
        ({"value": 2, "unit": "y"}, "P730D"),
        ({"value": "Compact"}, "compact"),
        # As written, for the check to name:
        ({"value": 7}, "7"),
        ({"value": 36, "unit": "h"}, "36 h"),
        ({"value": 0, "unit": "d"}, "0 d"),
        ({"value": -1, "unit": "d"}, "-1 d"),
        ({"value": True, "unit": "d"}, "True d"),
        ({"value": None}, "None"),
        ({"value": "nan", "unit": "d"}, "nan d"),
    ],
    ids=str,
)
def test_a_retention_is_whole_days_in_any_unit(mesh: Path, entry: Json, retention: str) -> None:
    """The standard has a value and a unit."""
    sla = [{"property": "retention", **entry}]
    edit_yaml(mesh / "songs" / "contract.yaml", lambda text: text.update(slaProperties=sla))
    assert load(mesh)["songs"].retention == retention
    reported = [one for one in problems(mesh) if one.startswith("songs: retention is")]
    assert bool(reported) is not (retention == "compact" or retention.startswith("P"))


def test_the_key_is_the_primary_key_wherever_it_is_listed(mesh: Path) -> None:
    """Not the first property."""
    properties = [{"name": "title"}, {"name": "song_id", "primaryKey": True}]
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text["schema"][0].update(properties=properties))
    assert load(mesh)["songs"].key == "song_id"


def test_the_subject_is_the_name_of_the_schema_in_the_registry(mesh: Path) -> None:
    """A topic that is named otherwise than its contract needs it."""
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text["schema"][0].update(physicalName="music.songs"))
    assert any("set the property subject" in one for one in problems(mesh))
    load_contracts.cache_clear()
    set_property(mesh, "songs", "subject", "music.songs")
    assert load(mesh)["songs"].subject == "music.songs"
    assert problems(mesh) == []


def test_dates_of_a_contract_are_text(mesh: Path) -> None:
    """As in JSON: YAML would make datetimes of them."""
    path = mesh / "songs" / "contract.yaml"
    path.write_text(path.read_text() + "contractCreatedTs: 2022-11-15T02:59:43+00:00\n")
    assert read_yaml(path)["contractCreatedTs"] == "2022-11-15T02:59:43+00:00"


def add_field(folder: Path, contract: str, avro: Any, **more: Any) -> None:
    edit_schema(
        folder / contract / f"{contract}.v1.avsc",
        lambda fields: fields.append({"name": "more", "type": avro, **more}),
    )


def rock(folder: Path) -> Path:
    return folder / "songs" / "examples" / "valid" / "rock.json"


NARRATOR = {
    "type": "record",
    "name": "Narrator",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "country", "type": ["null", "string"], "default": None},
        {"name": "voice", "type": ["null", "bytes"], "default": None},
        {"name": "mentor", "type": ["null", {"type": "record", "name": "Mentor", "fields": [
            {"name": "rating", "type": "float", "default": 0.1},
            {"name": "mark", "type": {"type": "fixed", "name": "Mark", "size": 2}},
        ]}], "default": None},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("avro", "value"),
    [
        (["null", "float"], 4.7),
        ("double", 4.7),
        ("double", 4),
        ("float", 4),
        ("bytes", "BNI="),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "BNI="),
        ({"type": "fixed", "name": "F", "size": 2}, "BNI="),
        ({"type": "array", "items": ["null", "bytes"]}, ["BNI=", None]),
        ({"type": "map", "values": "float"}, {"a": 0.1}),
        ([NARRATOR, {"type": "map", "values": ["null", "float"]}], {"name": 0.1, "x": None}),
        ([NARRATOR, {"type": "map", "values": "string"}], {"name": "N", "country": None}),
        (["null", NARRATOR], {"name": "N"}),
        (["null", NARRATOR], {"name": "N", "voice": "BNI=", "mentor": {"mark": "BNI="}}),
        ({"type": "array", "items": NARRATOR}, [{"name": "N"}, {"name": "M", "country": "DE"}]),
    ],
    ids=str,
)
def test_an_example_is_read_back_by_the_precision_and_defaults_of_its_type(
    mesh: Path, avro: Any, value: Any
) -> None:
    """Bytes are base64 at any depth, and what the schema defaults may be left out at any depth."""
    for path in (mesh / "songs" / "examples").rglob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "more": value}))
    add_field(mesh, "songs", avro)
    assert problems(mesh) == []


@pytest.mark.parametrize(("avro", "value"), [("bytes", "no base64!"), ("float", "4.7")])
def test_an_example_of_another_type_is_a_problem(mesh: Path, avro: Any, value: Any) -> None:
    """Rounding and base64 excuse nothing else."""
    rock(mesh).write_text(json.dumps({**json.loads(rock(mesh).read_text()), "more": value}))
    add_field(mesh, "songs", ["null", avro], default=None)
    assert any("rock.json" in one for one in problems(mesh))


@pytest.mark.parametrize(
    "avro",
    [
        {"type": "string", "logicalType": "uuid"},
        {"type": "enum", "name": "Title", "symbols": ["A", "B"]},
    ],
    ids=["uuid", "enum"],
)
def test_ids_and_labels_may_be_uuids_and_enums(mesh: Path, avro: Any) -> None:
    """They are read as text."""

    def change(fields: list[Json]) -> None:
        for entry in fields:
            if entry["name"] == "title":
                entry["type"] = avro

    for path in (mesh / "songs" / "examples").rglob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "title": "A"}))
    edit_schema(mesh / "songs" / "songs.v1.avsc", change)
    assert [one for one in problems(mesh) if "title" in one] == []


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


def _location(url: str) -> Callable[[Path], None]:
    def break_it(mesh: Path) -> None:
        path = mesh / "songs" / "contract.yaml"
        edit_yaml(path, lambda text: text["servers"][1].update(location=url))

    break_it.__name__ = url
    return break_it


def _fields_that_differ_in_case(mesh: Path) -> None:
    add_field(mesh, "songs", ["null", "string"], default=None)
    edit_schema(mesh / "songs" / "songs.v1.avsc", lambda fields: fields[-1].update(name="Title"))


def _catalog_table_without_database(mesh: Path) -> None:
    set_property(mesh, "songs", "catalogTable", "songs")


def _key_is_not_the_id(mesh: Path) -> None:
    path = mesh / "songs" / "contract.yaml"
    edit_yaml(path, lambda text: text["schema"][0]["properties"][0].update(name="title"))


def _same_subject(mesh: Path) -> None:
    set_property(mesh, "songs", "subject", "podcasts")


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
    _location("s3://tunemesh-podcasts/product"): "'s3://tunemesh-podcasts/product' is also that of",
    _location("s3a://tunemesh-podcasts/product/songs/"): "overlaps with that of podcasts",
    _location("s3://tunemesh-podcasts"): "'s3://tunemesh-podcasts' overlaps with that of podcasts",
    _fields_that_differ_in_case: "songs: the fields 'title' and 'Title' are one column",
    _catalog_table_without_database: "songs: catalogTable is 'songs', expected DATABASE.TABLE",
    _key_is_not_the_id: "songs: the key of the topic is 'title', and the mapped id is 'song_id'",
    _same_subject: "songs: schema name 'podcasts' is also that of podcasts",
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
