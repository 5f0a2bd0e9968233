"""Records as rows and items, and back: nothing is lost on the way, types follow the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.stores.dynamodb import (
    ItemReader,
    from_attribute,
    from_item,
    table_definition,
    to_attribute,
    to_item,
)
from connectors.stores.postgresql import Table, quoted
from schemas.invalid import InvalidRecord
from schemas.model import Contract, load_contracts

CONTRACTS = load_contracts()
USERS, SONGS = CONTRACTS["users"], CONTRACTS["songs"]


@pytest.mark.parametrize("contract", CONTRACTS.sources, ids=lambda contract: contract.name)
def test_a_record_comes_back_from_its_row_and_its_item(contract: Contract) -> None:
    """For every example of every domain, whatever store it has."""
    table, reader = Table(contract), ItemReader(contract)
    defaults = {e["name"]: e.get("default") for e in contract.newest.avro["fields"]}
    for example in contract.examples("valid").values():
        record = {**defaults, **example}
        assert table.from_row(table.to_row(record)) == record
        assert reader(to_item(record)) == record


def test_columns_have_the_types_of_the_contract() -> None:
    """Timestamps are timestamptz and lists are arrays."""
    assert Table(USERS).columns == {
        "user_id": "text",
        "country": "text",
        "age_band": "text",
        "subscription": "text",
        "created_at": "timestamptz",
        "updated_at": "timestamptz",
        "deleted": "boolean",
    }
    assert Table(SONGS).columns["genres"] == "text[]"
    assert Table(SONGS).columns["duration_seconds"] == "integer"


def test_a_table_is_made_with_its_key_and_grows_with_the_contract() -> None:
    """The same statements make a table and add a column to one that is there."""
    statements = list(Table(USERS).statements())
    assert statements[0] == 'CREATE TABLE IF NOT EXISTS "users" ("user_id" text PRIMARY KEY)'
    assert 'ALTER TABLE "users" ADD COLUMN IF NOT EXISTS "country" text' in statements


def test_a_name_cannot_end_its_quotes() -> None:
    """Names of fields come from files; they stay names."""
    assert quoted('a"; DROP TABLE users; --') == '"a""; DROP TABLE users; --"'


def test_a_timestamp_keeps_its_milliseconds_over_all_years() -> None:
    """No rounding, before 1970 neither."""
    table = Table(USERS)
    base = {"user_id": "u", "country": None, "age_band": None, "subscription": None}
    for timestamp in (-62_135_596_800_000, -1, 0, 1, 1_790_000_000_123, 253_402_300_799_999):
        record = {**base, "created_at": timestamp, "updated_at": timestamp, "deleted": False}
        assert table.from_row(table.to_row(record)) == record


def test_a_column_that_was_added_later_has_its_default() -> None:
    """Rows of before have null there."""
    row = ("u1", None, None, None, None, None, None)
    assert Table(USERS).from_row(row)["deleted"] is False


def test_an_item_has_no_attribute_for_null_and_may_have_others() -> None:
    """Attributes beside the contract's fields are not part of the record."""
    item = to_item({"song_id": "s1", "title": "T", "genres": ["a"], "artist": None})
    assert item == {"song_id": {"S": "s1"}, "title": {"S": "T"}, "genres": {"L": [{"S": "a"}]}}
    assert ItemReader(SONGS)({**item, "extra": {"S": "x"}})["deleted"] is False


@pytest.mark.parametrize(
    "value", [None, True, False, 0, -5, 2**62, 1.5, "", "ü", [], ["a", None], {"a": [1]}]
)
def test_a_value_comes_back_from_its_attribute(value: Any) -> None:
    """With its type: true is no number, 1 is no text."""
    found = from_attribute(json.loads(json.dumps(to_attribute(value))), "field")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("attribute", [{"B": "YQ=="}, {"NS": ["1"]}, {"N": "x"}, {}, "text"])
def test_an_attribute_that_no_record_has_is_refused(attribute: Any) -> None:
    """Binaries and sets of numbers were written by another program; the attribute is named."""
    with pytest.raises(InvalidRecord, match=r"^wrong_type: cover: ") as caught:
        from_item({"cover": attribute})
    assert caught.value.field == "cover"


def test_a_set_of_strings_is_a_sorted_list() -> None:
    """Avro has no sets, and an export is the same at each run."""
    assert from_item({"genres": {"SS": ["b", "a"]}}) == {"genres": ["a", "b"]}


def test_a_table_has_the_contracts_key_and_a_stream_of_both_images() -> None:
    """Without the stream nothing would be published."""
    definition = table_definition(SONGS)
    assert definition["TableName"] == "tunemesh-songs"
    assert definition["KeySchema"] == [{"AttributeName": "song_id", "KeyType": "HASH"}]
    assert definition["StreamSpecification"]["StreamViewType"] == "NEW_AND_OLD_IMAGES"
