"""The supported filter expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulators.errors import ServiceError
from emulators.personalize.control.bulk import Bulk
from emulators.personalize.control.filtering import select_items
from emulators.personalize.control.filters import parse
from emulators.personalize.rules import Record
from emulators.personalize.store import RecordsCall, Store, StoreReader
from tests.unit.emulators.test_personalize_imports import schema

ITEMS = schema(
    "Items",
    ("ITEM_ID", "string", ""),
    ("GENRES", ["null", "string"], "categorical"),
    ("TITLE", ["null", "string"], "textual"),
    ("IS_NEW", "boolean", ""),
    ("NUMBER_OF_DOWNLOADS", ["null", "long"], ""),
    ("CREATION_TIMESTAMP", ["null", "long"], ""),
)
USERS = schema(
    "Users", ("USER_ID", "string", ""), ("AGE", "int", ""), ("PLAN", "string", "categorical")
)
DRAMA_NOT_CLICKED = (
    'INCLUDE ItemID WHERE Items.GENRES IN ("drama") | '
    'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("click")'
)


def passes(
    expression: str,
    given: dict[str, str],
    user: dict[str, list[Any]] | None = None,
    events: list[str] | None = None,
    **item: Any,
) -> bool:
    """Whether an item passes a filter, by its fields or by the types of the user's events."""
    parsed = parse(expression, ITEMS, USERS)
    parsed.check_values(given)
    values = {name: value if isinstance(value, list) else [value] for name, value in item.items()}
    return all(
        one.is_passed_by({"EVENT_TYPE": events or []} if one.dataset != "ITEMS" else values, given)
        for one in parsed.expressions
        if one.applies_to(user or {}, given)
    )


@pytest.mark.parametrize(
    ("expression", "given", "values", "expected"),
    [
        ('INCLUDE ItemID WHERE Items.GENRES IN ("rock")', {}, ["rock", "pop"], True),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("rock")', {}, ["pop"], False),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("rock")', {}, [], False),
        ('EXCLUDE ItemID WHERE Items.GENRES IN ("rock","pop")', {}, ["pop"], False),
        ('exclude itemid where Items.GENRES in ("rock")', {}, [], True),
        ('INCLUDE ItemID WHERE Items.GENRES NOT IN ("rock")', {}, ["pop"], True),
        ('EXCLUDE ItemID WHERE Items.GENRES NOT IN ("rock")', {}, ["pop"], False),
        ("INCLUDE ItemID WHERE Items.GENRES IN ($G)", {"G": '"a","rock"'}, ["rock"], True),
        ("INCLUDE ItemID WHERE Items.GENRES IN ($G)", {"G": '"a"'}, ["rock"], False),
        ('INCLUDE ItemID WHERE Items.GENRES IN ($G,"rock")', {"G": '"a"'}, ["rock"], True),
        ("EXCLUDE ItemID WHERE Items.GENRES IN ($G)", {"G": '"rock"'}, ["rock"], False),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("a") OR Items.GENRES IN ("rock")', {}, ["a"], True),
        (
            'EXCLUDE ItemID WHERE Items.GENRES IN ("shoe") AND Items.GENRES NOT IN ("boot")',
            {},
            ["shoe", "boot"],
            True,
        ),
        (
            'EXCLUDE ItemID WHERE Items.GENRES IN ("shoe") AND Items.GENRES IN ($G)',
            {},
            ["shoe"],
            False,
        ),
    ],
)
def test_items_pass_an_expression(
    expression: str, given: dict[str, str], values: list[str], expected: bool
) -> None:
    """Included or excluded by any of an item's values."""
    assert passes(expression, given, GENRES=values) is expected


@pytest.mark.parametrize(
    ("expression", "events", "expected"),
    [
        ('EXCLUDE ItemID WHERE Interactions.event_type IN ("*")', ["play"], False),
        ('EXCLUDE ItemID WHERE Interactions.event_type IN ("*")', [], True),
        ('EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("SKIP")', ["skip"], False),
        ('EXCLUDE itemId WHERE INTERACTIONS.event_type in ("click", "stream")', ["click"], False),
        (DRAMA_NOT_CLICKED, ["click"], False),
        (DRAMA_NOT_CLICKED, ["play"], True),
    ],
)
def test_items_pass_by_the_users_events(expression: str, events: list[str], expected: bool) -> None:
    """Without regard to case; an expression after | filters what passes the one before."""
    assert passes(expression, {}, events=events, GENRES=["drama"]) is expected


@pytest.mark.parametrize(
    ("condition", "given", "value", "expected"),
    [
        ("Items.NUMBER_OF_DOWNLOADS < 20", {}, 19, True),
        ("Items.NUMBER_OF_DOWNLOADS < 20", {}, 20, False),
        ("Items.NUMBER_OF_DOWNLOADS <= 20", {}, 20, True),
        ("Items.NUMBER_OF_DOWNLOADS = 20", {}, 20, True),
        ("Items.NUMBER_OF_DOWNLOADS != 20", {}, 20, False),
        ("Items.NUMBER_OF_DOWNLOADS>=$N", {"N": "20"}, 20, True),
        ("Items.NUMBER_OF_DOWNLOADS > $N", {"N": '"19.5"'}, 20, True),
        ("Items.NUMBER_OF_DOWNLOADS < 20", {}, [], False),
        ("Items.NUMBER_OF_DOWNLOADS > 1 AND Items.NUMBER_OF_DOWNLOADS < 9", {}, 20, False),
        ("Items.NUMBER_OF_DOWNLOADS < 1 OR Items.NUMBER_OF_DOWNLOADS > 9", {}, 20, True),
    ],
)
def test_numbers_are_compared(
    condition: str, given: dict[str, str], value: Any, expected: bool
) -> None:
    """As the guide's examples do; an item without the number meets no comparison."""
    expression = f"INCLUDE ItemID WHERE {condition}"
    assert passes(expression, given, NUMBER_OF_DOWNLOADS=value) is expected


def test_an_expression_may_depend_on_the_user() -> None:
    """It filters only for users who meet the conditions after IF."""
    expression = (
        "EXCLUDE ItemID WHERE Items.NUMBER_OF_DOWNLOADS < 20 "
        'IF CurrentUser.AGE > 18 AND CurrentUser.PLAN IN ("free")'
    )
    assert parse(expression, ITEMS, USERS).user_fields == {"AGE", "PLAN"}
    for age, plan, excluded in ((19, "free", True), (18, "free", False), (19, "paid", False)):
        user: dict[str, list[Any]] = {"AGE": [age], "PLAN": [plan]}
        assert passes(expression, {}, user, NUMBER_OF_DOWNLOADS=1) is not excluded
    assert passes(expression, {}, {}, NUMBER_OF_DOWNLOADS=1)


def test_an_excluding_filter_without_its_values_filters_nothing() -> None:
    """An including filter needs all values."""
    assert passes("EXCLUDE ItemID WHERE Items.GENRES IN ($G)", {}, GENRES=["rock"])
    including = parse("INCLUDE ItemID WHERE Items.GENRES IN ($G)", ITEMS)
    with pytest.raises(ServiceError, match="'G' has no value"):
        including.check_values({})
    with pytest.raises(ServiceError, match="no parameter 'H'"):
        including.check_values({"G": '"rock"', "H": '"pop"'})
    with pytest.raises(ServiceError, match="quotation marks"):
        including.check_values({"G": "rock"})
    compared = parse("EXCLUDE ItemID WHERE Items.NUMBER_OF_DOWNLOADS > $N", ITEMS)
    with pytest.raises(ServiceError, match="must be a number"):
        compared.check_values({"N": "many"})


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("rock", "is not of the form"),
        ("", "is not of the form"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("a") AND', "is not a field"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("a"', "instead of )"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("a") ItemID', "after the end"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("a") & Items.GENRES IN ("b")', "cannot be read"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("a") AND Items.X IN ("b")', "no field X"),
        (
            'INCLUDE ItemID WHERE Items.X IN ("a") | EXCLUDE ItemID WHERE Items.X IN ("b")',
            "field X",
        ),
        (
            'INCLUDE ItemID WHERE Items.GENRES IN ("a") AND Interactions.event_type IN ("b")',
            "of one dataset",
        ),
        ("INCLUDE ItemID WHERE Items.GENRES > 3", "only numbers can be compared"),
        ("INCLUDE ItemID WHERE Items.NUMBER_OF_DOWNLOADS > many", "neither a number"),
        ("INCLUDE ItemID WHERE Users.AGE IN ($A)", "does not offer the dataset Users"),
        ("INCLUDE UserID WHERE Users.AGE IN ($A)", "does not offer UserID"),
        ('INCLUDE ActionID WHERE Actions.X IN ("a")', "does not offer ActionID"),
        ("INCLUDE ItemID WHERE Items.GENRES IN (CurrentItem.GENRES)", "neither a text"),
        ('INCLUDE ItemID WHERE CurrentItem.GENRES IN ("a")', "does not offer CurrentItem"),
        ('INCLUDE ItemID WHERE CurrentUser.PLAN IN ("a")', "after IF"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("a") IF Items.GENRES IN ("b")', "after IF"),
        ("INCLUDE ItemID WHERE Items.GENRES IN (rock)", "neither a text"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("*")', "for event types only"),
        ("INCLUDE ItemID WHERE Items.LANGUAGE IN ($L)", "no field LANGUAGE"),
        ("INCLUDE ItemID WHERE Items.TITLE IN ($T)", "TITLE"),
        ("INCLUDE ItemID WHERE Items.IS_NEW IN ($N)", "IS_NEW is boolean"),
        ("INCLUDE ItemID WHERE Interactions.DEVICE IN ($D)", "event type only"),
    ],
)
def test_an_unsupported_expression_is_refused(expression: str, reason: str) -> None:
    """With the reason."""
    with pytest.raises(ServiceError, match="InvalidInputException") as raised:
        parse(expression, ITEMS, USERS)
    assert reason in raised.value.message


def test_a_filter_is_applied_to_put_records(tmp_path: Path) -> None:
    """Numbers and categories of items, the user's own fields, and the user's events."""
    store = Store(tmp_path / "put.db")
    store.write(
        [
            RecordsCall(
                "items",
                (
                    Record("a", '{"genres":"rock|pop","numberOfDownloads":5}'),
                    Record("b", '{"genres":"rock","numberOfDownloads":50}'),
                    Record("c", None),
                ),
            ),
            RecordsCall("users", (Record("adult", '{"age":30}'), Record("child", '{"age":9}'))),
        ],
        1,
    )
    reader, bulk = StoreReader(tmp_path / "put.db"), Bulk(tmp_path / "bulk.db")

    def selected(expression: str, user: str = "adult", **given: str) -> list[str]:
        parsed = parse(expression, ITEMS, USERS)
        return select_items(parsed, given, user, ["a", "b", "c", "unknown"], reader, bulk)

    few = "INCLUDE ItemID WHERE Items.NUMBER_OF_DOWNLOADS < $N"
    assert selected(few, N="20") == ["a"]
    assert selected(f'{few} | EXCLUDE ItemID WHERE Items.GENRES IN ("pop")', N="60") == ["b"]
    only_adults = 'INCLUDE ItemID WHERE Items.GENRES IN ("pop") IF CurrentUser.AGE > 18'
    assert selected(only_adults) == ["a"]
    assert selected(only_adults, "child") == ["a", "b", "c", "unknown"]
    for opened in (reader, bulk, store):
        opened.close()
