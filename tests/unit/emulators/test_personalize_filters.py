"""The supported filter expressions."""

from __future__ import annotations

import json

import pytest

from emulators.errors import ServiceError
from emulators.personalize.control.filters import parse
from emulators.personalize.control.schemas import parse as parse_schema

ITEMS = parse_schema(
    json.dumps(
        {
            "type": "record",
            "name": "Items",
            "namespace": "com.amazonaws.personalize.schema",
            "fields": [
                {"name": "ITEM_ID", "type": "string"},
                {"name": "GENRES", "type": ["null", "string"], "categorical": True},
                {"name": "TITLE", "type": ["null", "string"], "textual": True},
                {"name": "IS_NEW", "type": "boolean"},
            ],
        }
    )
)


@pytest.mark.parametrize(
    ("expression", "given", "values", "passes"),
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
        ('EXCLUDE ItemID WHERE Interactions.event_type IN ("*")', {}, ["play"], False),
        ('EXCLUDE ItemID WHERE Interactions.event_type IN ("*")', {}, [], True),
        ('EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("SKIP")', {}, ["skip"], False),
    ],
)
def test_items_pass_an_expression(
    expression: str, given: dict[str, str], values: list[str], passes: bool
) -> None:
    """Included or excluded by any of an item's values; the case of event types is ignored."""
    parsed = parse(expression, ITEMS)
    filter_values = parsed.filter_values(given)
    assert filter_values is not None
    assert parsed.is_passed_by(values, filter_values) is passes


def test_an_excluding_filter_without_its_values_filters_nothing() -> None:
    """An including filter needs all values."""
    assert parse("EXCLUDE ItemID WHERE Items.GENRES IN ($G)", ITEMS).filter_values({}) is None
    including = parse("INCLUDE ItemID WHERE Items.GENRES IN ($G)", ITEMS)
    with pytest.raises(ServiceError, match="'G' has no value"):
        including.filter_values({})
    with pytest.raises(ServiceError, match="no parameter 'H'"):
        including.filter_values({"G": '"rock"', "H": '"pop"'})
    with pytest.raises(ServiceError, match="quotation marks"):
        including.filter_values({"G": "rock"})


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("rock", "is not of the form"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("a") AND Items.X IN ("b")', "does not offer"),
        ('INCLUDE ItemID WHERE Items.X IN ("a") | EXCLUDE ItemID WHERE Items.X IN ("b")', "offer"),
        ("INCLUDE ItemID WHERE Items.GENRES > 3", "does not offer"),
        ("INCLUDE ItemID WHERE Users.AGE IN ($A)", "does not offer the dataset Users"),
        ("INCLUDE ItemID WHERE Items.GENRES IN (rock)", "neither a text"),
        ("INCLUDE ItemID WHERE Items.LANGUAGE IN ($L)", "no field LANGUAGE"),
        ("INCLUDE ItemID WHERE Items.TITLE IN ($T)", "TITLE"),
        ("INCLUDE ItemID WHERE Items.IS_NEW IN ($N)", "IS_NEW is boolean"),
        ("INCLUDE ItemID WHERE Interactions.DEVICE IN ($D)", "event type only"),
    ],
)
def test_an_unsupported_expression_is_refused(expression: str, reason: str) -> None:
    """With the reason."""
    with pytest.raises(ServiceError, match="InvalidInputException") as raised:
        parse(expression, ITEMS)
    assert reason in raised.value.message
