"""Selecting dead letters, which of them were replayed, and what they carry."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.catalog.pii import PiiClass
from connectors.clock import now_ms
from deploy.dead_letters import (
    KEPT_MS,
    DeadLetter,
    DeadLetterError,
    data_class,
    describe,
    group,
    replay_dead_letters,
    select,
)
from schemas.model import load_contracts
from verification.endpoints import Endpoints

CONTRACTS = load_contracts()
LETTER = DeadLetter(
    topic="users",
    partition=0,
    offset=7,
    timestamp=1_790_000_000_000,
    key=b"u",
    payload=b"{}",
    step="decode",
    error_code="bad_magic_byte",
    message="what was wrong",
    event_id=None,
    first_seen=1_790_000_001_000,
)


def endpoints_in(home: Path) -> Endpoints:
    """Endpoints of which only the home is used."""
    return Endpoints("nowhere:1", home, "", "", "", "")


def replayed(home: Path, *letters: DeadLetter) -> list[int]:
    """How many of the letters of each group were replayed."""
    return [one.replayed for one in group(letters, endpoints_in(home))]


def record(home: Path, *rows: tuple[object, ...]) -> None:
    """Write rows of replays as an earlier command did."""
    with sqlite3.connect(home / "dlq.sqlite") as connection:
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO replayed VALUES ({marks})", rows)


def test_a_reason_that_no_dead_letter_has_is_an_error_with_the_known_ones() -> None:
    """One of the decode step may have none at present."""
    assert select([LETTER], "bad_magic_byte") == [LETTER]
    assert select([LETTER], "truncated_body") == []
    with pytest.raises(DeadLetterError, match=r"'nonsense'.*bad_magic_byte;.*truncated_body"):
        select([LETTER], "nonsense")
    with pytest.raises(DeadLetterError, match=r"present ones: none"):
        select([], "nonsense")
    delivered = replace(LETTER, error_code="personalize.InvalidEvent")
    assert select([LETTER, delivered], "personalize.InvalidEvent") == [delivered]


def test_the_newest_record_of_a_position_is_the_one_of_its_id() -> None:
    """A topic that was created anew has other records at the same positions."""
    again = replace(LETTER, timestamp=LETTER.timestamp + 5)
    assert select([LETTER, again], "bad_magic_byte") == [LETTER, again]
    assert select([LETTER, again], ids=["users:0:7"]) == [again]


def test_a_replayed_record_is_told_from_a_new_one(tmp_path: Path) -> None:
    """By its position and its timestamp."""
    again = replace(LETTER, timestamp=LETTER.timestamp + 5)
    assert replayed(tmp_path, LETTER, again) == [0]
    record(tmp_path, (LETTER.id, now_ms(), "users", 0, 9, LETTER.timestamp))
    assert replayed(tmp_path, LETTER) == [1]
    assert replayed(tmp_path, LETTER, again) == [1]
    assert replayed(tmp_path, again) == [0]
    assert replayed(tmp_path, replace(LETTER, offset=8)) == [0]
    assert replay_dead_letters([LETTER], endpoints_in(tmp_path)).skipped == (LETTER.id,)


def test_replays_that_an_earlier_version_recorded_are_known(tmp_path: Path) -> None:
    """It recorded no timestamp: a record that was published later is another one."""
    before = now_ms() - 1_000
    letter = replace(LETTER, timestamp=before)
    with sqlite3.connect(tmp_path / "dlq.sqlite") as connection:
        connection.execute(
            "CREATE TABLE replayed"
            " (id TEXT, at_ms INTEGER, topic TEXT, partition INTEGER, offset INTEGER)"
        )
    record(tmp_path, (letter.id, before + 500, "users", 0, 9))
    assert replayed(tmp_path, letter) == [1]
    assert replayed(tmp_path, replace(letter, timestamp=before + 501)) == [0]


def test_replays_of_expired_dead_letters_are_removed(tmp_path: Path) -> None:
    assert replayed(tmp_path, LETTER) == [0]
    old = now_ms() - KEPT_MS
    record(tmp_path, *((f"users:0:{n}", old + n, "users", 0, n, n) for n in (-1_000, 60_000)))
    assert replayed(tmp_path, LETTER) == [0]
    with sqlite3.connect(tmp_path / "dlq.sqlite") as connection:
        assert connection.execute("SELECT id FROM replayed").fetchall() == [("users:0:60000",)]


def test_what_a_back_end_refused_is_not_replayed(tmp_path: Path) -> None:
    """It was on no topic, and its payload is no record of one."""
    letter = replace(LETTER, partition=-1, step="publish", error_code="missing_field")
    outcome = replay_dead_letters([letter], endpoints_in(tmp_path), again=True)
    assert (outcome.replayed, outcome.unpublished) == ((), ("users:-1:7",))
    assert list(describe(letter, CONTRACTS))[-1].endswith("{}")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("users", PiiClass.PERSONAL),
        ("interactions", PiiClass.PSEUDONYMOUS),
        ("interactions-enriched", PiiClass.PERSONAL),
        ("songs", PiiClass.PUBLIC),
        ("trends", PiiClass.INTERNAL),
        ("of no contract", PiiClass.PERSONAL),
    ],
)
def test_a_dead_letter_is_of_the_class_of_its_topic(topic: str, expected: PiiClass) -> None:
    assert data_class(topic, CONTRACTS) is expected
    assert f"data        {expected}" in describe(replace(LETTER, topic=topic), CONTRACTS)


def test_the_product_of_dead_letters_says_what_each_field_may_hold() -> None:
    """A message repeats what a service says."""
    contract = CONTRACTS["dead-letters"]
    assert contract.pii_class("payload") == contract.pii_class("message") == "personal"
    assert contract.pii_class("key") == contract.pii_class("event_id") == "pseudonymous"
    assert contract.pii_class("error_code") == "internal"
