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
Edit = Callable[[Path], object]


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


def edit_schema(path: Path, change: Callable[[list[Json]], Any]) -> None:
    avro = json.loads(path.read_text())
    change(avro["fields"])
    path.write_text(json.dumps(avro))


def item_mapping(folder: Path, contract: str) -> Json:
    text = yaml.safe_load((folder / contract / "contract.yaml").read_text())
    mapping: Json = next(e["value"] for e in text["customProperties"] if e["property"] == "item")
    return mapping


# Edits of one contract, by default the songs.


def keys(contract: str = "songs", **values: Any) -> Edit:
    """Set keys of a contract; None removes one."""

    def change(text: Json) -> None:
        text.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del text[name]

    return lambda mesh: edit_yaml(mesh / contract / "contract.yaml", change)


def first_object(contract: str = "songs", **values: Any) -> Edit:
    """Set keys of the object in schema."""
    path = Path(contract) / "contract.yaml"
    return lambda mesh: edit_yaml(mesh / path, lambda text: text["schema"][0].update(values))


def location(url: str, contract: str = "songs") -> Edit:
    """Set where the data product is."""
    path = Path(contract) / "contract.yaml"
    return lambda mesh: edit_yaml(mesh / path, lambda text: text["servers"][1].update(location=url))


def custom(name: str, value: Any, contract: str = "songs") -> Edit:
    """Set a custom property; None removes it."""

    def change(text: Json) -> None:
        kept = [entry for entry in text["customProperties"] if entry["property"] != name]
        if value is not None:
            kept.append({"property": name, "value": value})
        text["customProperties"] = kept

    return lambda mesh: edit_yaml(mesh / contract / "contract.yaml", change)


def item(**changes: Any) -> Edit:
    """Set keys of the item mapping."""
    return lambda mesh: custom("item", {**item_mapping(mesh, "songs"), **changes})(mesh)


def retention(value: str) -> Edit:
    """Set the retention of the interactions."""
    return keys("interactions", slaProperties=[{"property": "retention", "value": value}])


def content(file: str, text: str | Json) -> Edit:
    """Write a file, as text or JSON."""
    written = text if isinstance(text, str) else json.dumps(text)
    return lambda mesh: (mesh / "songs" / file).write_text(written)


def copy(source: str, destination: str) -> Edit:
    """Copy a file."""
    return lambda mesh: shutil.copy(mesh / "songs" / source, mesh / "songs" / destination)


def field(name: str, avro: Any, **more: Any) -> Edit:
    """Add a field to the newest version."""

    def edit(mesh: Path) -> None:
        newest = max((mesh / "songs").glob("songs.v*.avsc"))
        edit_schema(newest, lambda fields: fields.append({"name": name, "type": avro, **more}))

    return edit


def together(*edits: Edit) -> Edit:
    """Do several edits."""
    return lambda mesh: [edit(mesh) for edit in edits]


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
    for edit in (
        keys("audiobooks", name="audiobooks"),
        first_object("audiobooks", physicalName="audiobooks"),
        location("s3://audiobooks/product/", "audiobooks"),
        custom("catalogTable", "audiobooks.audiobooks", "audiobooks"),
        custom("item", {**item_mapping(mesh, "songs"), "type": "audiobook"}, "audiobooks"),
    ):
        edit(mesh)
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


CONTRACT, SCHEMA = "songs/contract.yaml", "songs/songs.v1.avsc"

UNUSABLE: dict[str, list[tuple[Edit, str]]] = {
    CONTRACT: [
        (custom("role", "song"), "'song' is not a valid Role"),
        (custom("maxBytes", None), "'maxBytes' is missing"),
        (keys(slaProperties=[]), "needs retention in slaProperties"),
        (custom("compatibility", "SIDEWAYS"), "expected one of NONE, BACKWARD"),
        (first_object(physicalName="my songs"), "'my songs' is not a topic name"),
        (item(title="name"), "names the field 'name', which songs.v1.avsc"),
        (item(genre="genres"), "has 'genre', which is none of type, item_id"),
        (custom("item", {"type": "song", "title": "title"}), "needs 'item_id'"),
        (item(duration={"field": "duration_seconds", "unit": "min"}), "'min', expected s or ms"),
        (content("contract.yaml", "{"), "line 1: not YAML"),
        (
            keys(
                team={
                    "members": [
                        {"username": "ada", "role": "owner", "dateOut": "2025-01-31"},
                        {"username": "bob"},
                    ]
                }
            ),
            "the owner ada has left (2025-01-31)",
        ),
        (keys(team={"members": []}), "team has no member"),
        (first_object(physicalName="."), "'.' is reserved by Kafka"),
        (first_object(physicalName=".."), "'..' is reserved by Kafka"),
        (first_object(physicalName="__consumer_offsets"), "is reserved by Kafka"),
        (
            lambda mesh: edit_yaml(
                mesh / CONTRACT,
                lambda text: text["customProperties"].append({"property": "role", "value": "user"}),
            ),
            "customProperties has 'role' twice",
        ),
        (
            first_object(
                properties=[
                    {"name": "song_id", "primaryKey": True},
                    {"name": "title", "primaryKey": True},
                ]
            ),
            "the primary key is song_id, title; a topic has",
        ),
        (keys(schema=None), "schema has no object"),
        (keys(tags="music"), "tags is 'music', expected a list"),
        (content("contract.yaml", ""), "not a data contract"),
        (keys(customProperties={"role": "item"}), "expected a list"),
        (location("my bucket"), "'my bucket', expected s3://"),
        (custom("subject", "team/songs"), "subject is 'team/songs'"),
        (custom("maxBytes", "64 KB"), "maxBytes is '64 KB', expected a number"),
    ],
    SCHEMA: [
        (content("songs.v1.avsc", "{"), "not JSON: Expecting property name"),
        (content("songs.v1.avsc", '{"type": "string"}'), "not an Avro record schema"),
        (
            field("x` STRING) WITH ('connector'='blackhole') --", "string", default=""),
            "which is no Avro name",
        ),
    ],
    "songs": [
        (first_object(physicalName="podcasts"), "belongs to 'podcasts'"),
        (lambda mesh: (mesh / SCHEMA).rename(mesh / "songs" / "songs.v2.avsc"), "without a gap"),
        (lambda mesh: (mesh / SCHEMA).unlink(), "v1, v2"),
        # Schema files without a contract.yaml: it is missing or misspelt.
        (lambda mesh: (mesh / CONTRACT).rename(mesh / "songs/contract.yml"), "contract.yaml"),
    ],
    "songs-again": [
        (
            lambda mesh: shutil.copytree(mesh / "songs", mesh / "songs-again"),
            "already a contract 'songs'",
        ),
    ],
    "songs/song.v2.avsc": [
        (copy("songs.v1.avsc", "song.v2.avsc"), "named songs.v<N>.avsc"),
    ],
}


@pytest.mark.parametrize(
    ("where", "edit", "what"),
    [(where, edit, what) for where, cases in UNUSABLE.items() for edit, what in cases],
    ids=lambda value: "" if callable(value) else value,
)
def test_an_unusable_folder_is_named_with_what_to_change(
    mesh: Path, where: str, edit: Edit, what: str
) -> None:
    """One ContractError, never a KeyError from inside."""
    edit(mesh)
    with pytest.raises(ContractError) as caught:
        load(mesh)
    # Two contracts share the blame for a topic; the one that is read later is named.
    assert where in str(caught.value)
    assert what in str(caught.value)


def test_all_problems_of_all_contracts_are_reported_at_once(mesh: Path) -> None:
    """Each with its file; the other contracts are read."""
    for edit in (
        custom("maxBytes", None),
        keys(slaProperties=[]),
        field("a b", "string", default=""),
        custom("role", "listener", "users"),
    ):
        edit(mesh)
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
    keys(team=team)(mesh)
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
    keys(slaProperties=[{"property": "retention", **entry}])(mesh)
    assert load(mesh)["songs"].retention == retention
    reported = [one for one in problems(mesh) if one.startswith("songs: retention is")]
    assert bool(reported) is not (retention == "compact" or retention.startswith("P"))


def test_the_key_is_the_primary_key_wherever_it_is_listed(mesh: Path) -> None:
    """Not the first property."""
    properties = [{"name": "title"}, {"name": "song_id", "primaryKey": True}]
    first_object(properties=properties)(mesh)
    assert load(mesh)["songs"].key == "song_id"


def test_the_subject_is_the_name_of_the_schema_in_the_registry(mesh: Path) -> None:
    """A topic that is named otherwise than its contract needs it."""
    first_object(physicalName="music.songs")(mesh)
    assert any("set the property subject" in one for one in problems(mesh))
    load_contracts.cache_clear()
    custom("subject", "music.songs")(mesh)
    assert load(mesh)["songs"].subject == "music.songs"
    assert problems(mesh) == []


def test_dates_of_a_contract_are_text(mesh: Path) -> None:
    """As in JSON: YAML would make datetimes of them."""
    path = mesh / "songs" / "contract.yaml"
    path.write_text(path.read_text() + "contractCreatedTs: 2022-11-15T02:59:43+00:00\n")
    assert read_yaml(path)["contractCreatedTs"] == "2022-11-15T02:59:43+00:00"


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
    field("more", avro)(mesh)
    assert problems(mesh) == []


@pytest.mark.parametrize(("avro", "value"), [("bytes", "no base64!"), ("float", "4.7")])
def test_an_example_of_another_type_is_a_problem(mesh: Path, avro: Any, value: Any) -> None:
    """Rounding and base64 excuse nothing else."""
    rock(mesh).write_text(json.dumps({**json.loads(rock(mesh).read_text()), "more": value}))
    field("more", ["null", avro], default=None)(mesh)
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


VALID, INVALID = "examples/valid/rock.json", "examples/invalid/rock.json"
ROCK: Json = {"song_id": "s1", "title": "A", "genres": []}

DOUBTFUL: list[tuple[Edit, str]] = [
    (
        together(copy("songs.v1.avsc", "songs.v2.avsc"), field("bpm", "int")),
        "songs: songs.v2.avsc: bpm: has no default and is not written by",
    ),
    (copy(VALID, INVALID), "songs: examples/invalid/rock.json: is valid"),
    (
        copy("examples/invalid/missing_id.json", "examples/valid/missing_id.json"),
        "songs: examples/valid/missing_id.json: missing_id: song_id is",
    ),
    (
        lambda mesh: shutil.rmtree(mesh / "songs" / "examples" / "invalid"),
        "songs: there is no example in examples/invalid",
    ),
    (content(VALID, "{"), "rock.json: not an example record"),
    (
        content(VALID, ROCK | {"updated_at": 1_760_915_891}),
        "examples/valid/rock.json: invalid_value: updated_at is 1760915891: probably seconds",
    ),
    (
        content(VALID, ROCK | {"released_at": 1_667_180_800}),
        "examples/valid/rock.json: released_at is 1667180800: probably seconds, its type has milli",
    ),
    (content("examples/rock.json", "{}"), "examples/rock.json is read by nothing"),
    (
        first_object(properties=[{"name": "id", "primaryKey": True}]),
        "songs: the key 'id' is not a field",
    ),
    (
        custom("pii", {"default": "internal", "fields": {"email": "personal"}}, "users"),
        "users: the PII class of 'email'",
    ),
    (item(genres="title"), "genres is mapped to 'title', a string; expected array of string"),
    (item(title="artist"), "title is mapped to 'artist', which may be null"),
    (item(updated="duration_seconds"), "'duration_seconds', a int; expected timestamp-millis"),
    (item(type="podcast"), "songs: item type 'podcast' is also that of podcasts"),
    (
        custom("catalogTable", "tunemesh_podcasts.podcasts"),
        "songs: catalog table 'tunemesh_podcasts.podcasts' is also that of pod",
    ),
    (
        custom("maxBytes", 2 * 1024 * 1024),
        "dead-letters: maxBytes is 2097152: a whole record of songs",
    ),
    (
        custom("maxBytes", 65_536, "dead-letters"),
        "dead-letters: maxBytes is 65536, dead letters are limited to 2097152",
    ),
    (retention("P31D"), "retention is P30D, shorter than that of interactions (P31D)"),
    (retention("a week"), "interactions: retention is 'a week', expected compact or days"),
    (
        custom("maxBytes", 10_240, "interactions-enriched"),
        "interactions-enriched: maxBytes is 10240: the largest event",
    ),
    (
        location("s3://tunemesh-podcasts/product"),
        "'s3://tunemesh-podcasts/product' is also that of",
    ),
    (location("s3a://tunemesh-podcasts/product/songs/"), "overlaps with that of podcasts"),
    (location("s3://tunemesh-podcasts"), "'s3://tunemesh-podcasts' overlaps with that of podcasts"),
    (
        field("Title", ["null", "string"], default=None),
        "songs: the fields 'title' and 'Title' are one column",
    ),
    (custom("catalogTable", "songs"), "songs: catalogTable is 'songs', expected DATABASE.TABLE"),
    (
        first_object(properties=[{"name": "title", "primaryKey": True}]),
        "songs: the key of the topic is 'title', and the mapped id is 'song_id'",
    ),
    (custom("subject", "podcasts"), "songs: schema name 'podcasts' is also that of podcasts"),
    (
        lambda mesh: shutil.rmtree(mesh / "users"),
        "exactly one contract must have the role user, found: none",
    ),
]


@pytest.mark.parametrize(("edit", "what"), DOUBTFUL, ids=[what for _, what in DOUBTFUL])
def test_the_check_finds_what_would_fail_later(mesh: Path, edit: Edit, what: str) -> None:
    """Each before anything is registered or started."""
    edit(mesh)
    reported = problems(mesh)
    assert any(what in problem for problem in reported), reported
