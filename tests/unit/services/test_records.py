"""What the back ends take as a record: complete, typed, publishable; else they name the field."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import Encoder, encode_body, parse_plain
from schemas.invalid import InvalidRecord
from schemas.model import Contract, load_contracts
from services.records import InvalidInput, Rules

CONTRACTS = load_contracts()
NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
USER: dict[str, Any] = {"user_id": "u1", "country": "DE", "updated_at": NOW_MS}
SONG: dict[str, Any] = {"song_id": "s1", "title": "Song", "genres": ["rock"]}
EVENT: dict[str, Any] = {
    "event_id": "e1",
    "user_id": "u1",
    "session_id": "x1",
    "item_id": "s1",
    "event_type": "play",
    "occurred_at": NOW_MS,
}


def taken(contract: str, given: Any) -> dict[str, Any]:
    rules = Rules(CONTRACTS[contract])
    record = rules.completed(given)
    rules.check(record, NOW_MS)
    return record


@pytest.mark.parametrize("contract", CONTRACTS.sources, ids=lambda contract: contract.name)
def test_every_valid_example_is_taken_and_can_be_published(contract: Contract) -> None:
    """The contract's own examples pass, and their bytes are those of the codec."""
    rules = Rules(contract)
    for example in contract.examples("valid").values():
        record = rules.completed(example)
        rules.check(record, max(NOW_MS, example.get("occurred_at", 0)))
        assert encode_body(parse_plain(contract.newest.definition), record)


@pytest.mark.parametrize("contract", CONTRACTS.sources, ids=lambda contract: contract.name)
def test_no_invalid_example_is_taken(contract: Contract) -> None:
    """What the contract calls invalid is refused before it is stored."""
    rules = Rules(contract)
    examples = contract.examples("invalid")
    assert examples
    for example in examples.values():
        with pytest.raises(InvalidInput):
            rules.check(rules.completed(example), NOW_MS)


NULLS = dict.fromkeys(("artist", "duration_seconds", "released_at", "updated_at"))


def test_absent_fields_get_their_default_or_null() -> None:
    """A record that is stored has every field of the contract."""
    assert taken("songs", SONG) == {**SONG, **NULLS, "deleted": False}


def test_a_record_that_says_deleted_has_nothing_but_its_id_and_version() -> None:
    """No more than its id is needed; of what comes with it, nothing is kept."""
    deleted = taken("songs", {"song_id": "s1", "deleted": True})

    assert deleted == {"song_id": "s1", "title": "", "genres": [], **NULLS, "deleted": True}
    given = {"song_id": "s1", "deleted": True, "title": "T", "artist": "A", "updated_at": 5}
    assert taken("songs", given) == {**deleted, "updated_at": 5}
    with pytest.raises(InvalidInput):
        taken("songs", {"song_id": "s1", "deleted": True, "artist": 7})


def test_a_field_of_any_type_is_erased(tmp_path: Path, repository: Path) -> None:
    """Null where it may be, else its default, else the empty value of its type."""
    plan = {"type": "enum", "name": "Plan", "symbols": ["NONE", "PAID"]}
    address = {
        "type": "record",
        "name": "Address",
        "fields": [
            {"name": "street", "type": "string"},
            {"name": "plan", "type": "Plan"},
            {"name": "zone", "type": ["string", "null"], "default": "x"},
        ],
    }
    empty = {"street": "", "plan": "NONE", "zone": None}
    types: dict[str, tuple[Any, Any]] = {
        "email": ("string", ""),
        "plan": (plan, "NONE"),
        "address": (address, empty),
        "other": ("Address", empty),
        "either": (["string", "int"], ""),
        "score": ("double", 0.0),
        "tags": ({"type": "map", "values": "string"}, {}),
        "seal": ({"type": "fixed", "name": "Seal", "size": 2}, b"\0\0"),
    }
    source = repository / "schemas" / "contracts" / "users"
    folder = tmp_path / "users"
    folder.mkdir()
    schema = json.loads((source / "users.v1.avsc").read_text())
    schema["fields"] += [{"name": name, "type": type_} for name, (type_, _) in types.items()]
    schema["fields"].append({"name": "tier", "type": "string", "default": "free"})
    (folder / "users.v1.avsc").write_text(json.dumps(schema))
    shutil.copy(source / "contract.yaml", folder)

    rules = Rules(load_contracts((tmp_path,))["users"])
    record = rules.completed({"user_id": "u", "deleted": True, "tier": "gold", "email": "a@b.c"})
    erased = {name: value for name, (_, value) in types.items()} | {"tier": "free"}
    assert {name: record[name] for name in erased} == erased
    rules.check(record, NOW_MS)
    assert rules.is_erased(record)


@pytest.mark.parametrize(
    ("contract", "change", "reason", "field"),
    [
        ("users", {"name": "Ada"}, "unknown_field", "name"),
        ("users", {"user_id": ""}, "missing_id", "user_id"),
        ("users", {"user_id": "u" * 257}, "invalid_value", "user_id"),
        ("users", {"user_id": "\x1fu"}, "invalid_value", "user_id"),
        ("users", {"user_id": 7}, "wrong_type", "user_id"),
        ("users", {"user_id": None}, "wrong_type", "user_id"),
        ("users", {"country": 49}, "wrong_type", "country"),
        ("users", {"country": "D\x00"}, "invalid_value", "country"),
        ("users", {"country": "\ud800"}, "invalid_value", "country"),
        ("users", {"deleted": "no"}, "wrong_type", "deleted"),
        ("users", {"deleted": 1}, "wrong_type", "deleted"),
        ("users", {"deleted": None}, "wrong_type", "deleted"),
        ("users", {"created_at": True}, "wrong_type", "created_at"),
        ("users", {"created_at": 1.5}, "wrong_type", "created_at"),
        ("users", {"created_at": 2**63}, "wrong_type", "created_at"),
        ("users", {"created_at": 2**62}, "invalid_value", "created_at"),
        ("users", {"updated_at": -1}, "invalid_value", "updated_at"),
        ("users", {"updated_at": NOW_MS // 1000}, "invalid_value", "updated_at"),
        ("users", {"created_at": NOW_MS // 1000}, "invalid_value", "created_at"),
        ("songs", {"updated_at": NOW_MS * 1000}, "invalid_value", "updated_at"),
        ("songs", {"released_at": NOW_MS * 1000}, "invalid_value", "released_at"),
        ("interactions", {"occurred_at": NOW_MS // 1000}, "invalid_value", "occurred_at"),
        ("interactions", {"occurred_at": NOW_MS * 1000}, "invalid_value", "occurred_at"),
        ("users", {"updated_at": NOW_MS + DAY_MS + 1}, "future_timestamp", "updated_at"),
        ("users", {"country": "x" * 70_000}, "oversize", None),
        ("songs", {"duration_seconds": 2**31}, "wrong_type", "duration_seconds"),
        ("songs", {"genres": "rock"}, "wrong_type", "genres"),
        ("songs", {"genres": [1]}, "wrong_type", "genres"),
        ("songs", {"genres": ["a\x00"]}, "invalid_value", "genres"),
        ("songs", {"genres": None}, "wrong_type", "genres"),
        ("interactions", {"event_id": ""}, "missing_id", "event_id"),
        ("interactions", {"item_id": ""}, "missing_id", "item_id"),
        ("interactions", {"session_id": ""}, "missing_id", "session_id"),
        ("interactions", {"user_id": ""}, "missing_id", "user_id"),
        ("interactions", {"occurred_at": None}, "wrong_type", "occurred_at"),
        ("interactions", {"occurred_at": NOW_MS + DAY_MS + 1}, "future_timestamp", "occurred_at"),
    ],
)
def test_what_cannot_be_used_is_refused_with_reason_and_field(
    contract: str, change: dict[str, Any], reason: str, field: str | None
) -> None:
    """The caller learns which field it is and why."""
    base = {"users": USER, "songs": SONG, "interactions": EVENT}[contract]

    with pytest.raises(InvalidInput) as caught:
        taken(contract, {**base, **change})

    assert (caught.value.reason, caught.value.field) == (reason, field)


@pytest.mark.parametrize("given", [None, [], "u1", 1])
def test_a_record_is_an_object(given: Any) -> None:
    """Any other JSON is refused."""
    with pytest.raises(InvalidInput) as caught:
        taken("users", given)
    assert caught.value.reason == "wrong_type"


def test_what_is_taken_never_fails_to_be_encoded() -> None:
    """The producer's own checks find nothing to add: the two agree on each type."""
    from uuid import UUID

    odd: list[Any] = [
        None,
        True,
        0,
        -1,
        2**31,
        2**63,
        1.5,
        "",
        "x",
        [],
        ["x"],
        [None],
        {},
        {"a": 1},
    ]
    for contract in CONTRACTS.sources:
        base = next(iter(contract.examples("valid").values()))
        encoder = Encoder(contract, UUID(int=1))
        for name in contract.newest.field_names:
            for value in odd:
                try:
                    record = Rules(contract).completed({**base, name: value})
                    Rules(contract).check(record, NOW_MS * 2)
                except InvalidInput:
                    continue
                try:
                    encoder.encode(record)
                except InvalidRecord as error:
                    pytest.fail(f"{contract.name}.{name} = {value!r}: {error}")
