"""Promises of the check of rows: what fits the contract is converted without loss, nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from batch.exports.rows import RowMaker
from connectors.products.columns import Column, Kind, columns_of
from schemas.invalid import InvalidRecord
from schemas.model import load_contracts
from schemas.rules import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

CONTRACTS = load_contracts()
SONGS = CONTRACTS["songs"]
BEYOND = "invalid_value: x: a timestamp beyond the years 1 to 9999"
SONG = {"song_id": "s1", "title": "T", "genres": [], "deleted": False}


def maker(kind: Kind, *, nullable: bool = False, default: Any = None) -> RowMaker:
    """Of songs with one more field, `x`."""
    column = Column("x", kind, nullable, default)
    return RowMaker(SONGS, (*columns_of(SONGS), column))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.STRING, "é", "é"),
        (Kind.INT, -(2**31), -(2**31)),
        (Kind.INT, Decimal("12.0"), 12),
        (Kind.LONG, 2**63 - 1, 2**63 - 1),
        (Kind.DOUBLE, 3, 3.0),
        (Kind.DOUBLE, Decimal("1.5"), 1.5),
        (Kind.BOOLEAN, True, True),
        (Kind.STRINGS, ("a", "b"), ["a", "b"]),
        (Kind.TIMESTAMP, 1_795_443_900_123, 1_795_443_900_123),
        (Kind.TIMESTAMP, datetime(2026, 11, 23, 14, 25, 0, 123999, UTC), 1_795_443_900_123),
        (Kind.TIMESTAMP, datetime(2026, 11, 23, 14, 25), 1_795_443_900_000),  # noqa: DTZ001
        (
            Kind.TIMESTAMP,
            datetime(2026, 11, 23, 16, 25, tzinfo=timezone(timedelta(hours=2))),
            1_795_443_900_000,
        ),
        (Kind.TIMESTAMP, datetime(1969, 12, 31, 23, 59, 59, 999000, UTC), -1),
        (Kind.TIMESTAMP, MAX_TIMESTAMP_MS, MAX_TIMESTAMP_MS),
        (Kind.TIMESTAMP, MIN_TIMESTAMP_MS, MIN_TIMESTAMP_MS),
    ],
)
def test_what_fits_is_converted(kind: Kind, value: Any, expected: Any) -> None:
    """As the store's client gives it, in the form of the column; Arrow takes it, too."""
    rows = maker(kind)
    row = rows.row({**SONG, "x": value})
    assert row[-1] == expected
    assert type(row[-1]) is type(expected)
    assert rows.batch([row]).num_rows == 1


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Kind.STRING, 5, "wrong_type: x: a int, expected a string"),
        (Kind.STRING, b"5", "wrong_type: x: a bytes, expected a string"),
        (Kind.STRING, "\ud800", "invalid_value: x: has a lone surrogate"),
        (Kind.INT, True, "wrong_type: x: a bool, expected a 32-bit integer"),
        (Kind.INT, 2**31, "wrong_type: x: a number beyond 32 bits"),
        (Kind.INT, 1.0, "wrong_type: x: a float, expected a 32-bit integer"),
        (Kind.LONG, 2**63, "wrong_type: x: a number beyond 64 bits"),
        (Kind.LONG, Decimal("1.5"), "wrong_type: x: a Decimal, expected a 64-bit integer"),
        (Kind.LONG, "1", "wrong_type: x: a str, expected a 64-bit integer"),
        (Kind.DOUBLE, True, "wrong_type: x: a bool, expected a number"),
        (Kind.DOUBLE, float("nan"), "invalid_value: x: is not a finite number"),
        (Kind.BOOLEAN, 1, "wrong_type: x: a int, expected true or false"),
        (Kind.STRINGS, "ab", "wrong_type: x: a str, expected a list of strings"),
        (Kind.STRINGS, ["a", None], "wrong_type: x: a NoneType, expected a string"),
        (Kind.TIMESTAMP, "2026-11-23", "wrong_type: x: a str, expected a 64-bit integer"),
        (Kind.TIMESTAMP, MAX_TIMESTAMP_MS + 1, BEYOND),
        (Kind.TIMESTAMP, MIN_TIMESTAMP_MS - 1, BEYOND),
        (Kind.STRING, None, "wrong_type: x is null"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(kind: Kind, value: Any, message: str) -> None:
    """The message has the field and what is wrong, and not the value."""
    with pytest.raises(InvalidRecord) as refused:
        maker(kind).row({**SONG, "x": value})
    assert str(refused.value) == message


def test_an_absent_field_is_what_the_contract_says() -> None:
    """Its default, null where it may be null, else a fault."""
    assert maker(Kind.BOOLEAN, default=False).row(SONG)[-1] is False
    assert maker(Kind.STRING, nullable=True).row(SONG)[-1] is None
    with pytest.raises(InvalidRecord, match="wrong_type: x is absent"):
        maker(Kind.STRING).row(SONG)
    with pytest.raises(InvalidRecord, match="wrong_type: x is null"):
        maker(Kind.BOOLEAN, default=False).row({**SONG, "x": None})


@pytest.mark.parametrize(
    ("song_id", "message"),
    [
        ("", "missing_id: song_id is empty"),
        (None, "missing_id: song_id is null"),
        ("x" * 257, "invalid_value: song_id has 257 characters"),
        ("\x01x", "invalid_value: song_id starts with a control character"),
    ],
)
def test_an_id_is_there_and_not_too_long(song_id: Any, message: str) -> None:
    """By the same rules as on the stream."""
    rows = RowMaker(SONGS, columns_of(SONGS))
    with pytest.raises(InvalidRecord, match=message):
        rows.row({**SONG, "song_id": song_id})
    assert rows.row({**SONG, "song_id": "x" * 256})[0] == "x" * 256


def test_a_deletion_is_what_the_contract_maps() -> None:
    """Only true; a domain without deletions has none."""
    rows = RowMaker(SONGS, columns_of(SONGS))
    assert rows.is_deleted({**SONG, "deleted": True})
    assert not rows.is_deleted(SONG)
    assert not rows.is_deleted({"song_id": "s1"})
    interactions = CONTRACTS["interactions"]
    assert not RowMaker(interactions, columns_of(interactions)).is_deleted({"deleted": True})


@pytest.mark.parametrize("name", ["users", "songs", "podcasts", "interactions"])
def test_every_valid_example_is_a_row(name: str) -> None:
    """What producers may publish can be exported."""
    contract = CONTRACTS[name]
    rows = RowMaker(contract, columns_of(contract))
    examples = contract.examples("valid").values()
    made = [rows.row({**record, "published_at": 1}) for record in examples]
    assert rows.batch(made).num_rows == len(made) > 0


@pytest.mark.parametrize("name", ["users", "songs", "podcasts", "interactions"])
def test_no_invalid_example_is_a_row(name: str) -> None:
    """What the codec refuses, the export refuses."""
    contract = CONTRACTS[name]
    rows = RowMaker(contract, columns_of(contract))
    for record in contract.examples("invalid").values():
        with pytest.raises(InvalidRecord):
            rows.row({**record, "published_at": 1})
