"""The rules of Personalize's schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emulators.errors import ServiceError
from emulators.personalize.control.schemas import parse, replacement_problem

USER_ID = {"name": "USER_ID", "type": "string"}
ITEM_ID = {"name": "ITEM_ID", "type": "string"}
TIMESTAMP = {"name": "TIMESTAMP", "type": "long"}
GENRES = {"name": "GENRES", "type": ["null", "string"], "categorical": True}


def text(name: str, *fields: dict[str, Any], **others: Any) -> str:
    return json.dumps(
        {
            "type": "record",
            "name": name,
            "namespace": "com.amazonaws.personalize.schema",
            "fields": list(fields),
            **others,
        }
    )


def test_the_fields_keep_their_order_and_attributes() -> None:
    """The order is that of the CSV; null, categorical and textual are parsed."""
    title = {"name": "TITLE", "type": ["null", "string"], "textual": True}
    schema = parse(text("Items", GENRES, ITEM_ID, title))
    assert schema.kind == "ITEMS"
    assert schema.columns == ("GENRES", "ITEM_ID", "TITLE")
    field = schema.field("TITLE")
    assert field is not None
    assert (field.type, field.nullable, field.textual, field.categorical) == (
        "string",
        True,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("invalid", "reason"),
    [
        ("{", "not JSON"),
        (text("Songs", ITEM_ID, GENRES), "name must be one of"),
        (text("Items", ITEM_ID, GENRES, namespace="x"), "namespace"),
        (text("Items", ITEM_ID, GENRES, type="map"), "not an Avro record"),
        (text("Items"), "no fields"),
        (text("Items", GENRES), "ITEM_ID is missing"),
        (text("Items", ITEM_ID), "at least one metadata field"),
        (text("Users", USER_ID), "at least one metadata field"),
        (text("Interactions", USER_ID, ITEM_ID), "TIMESTAMP is missing"),
        (text("Interactions", USER_ID, ITEM_ID, {**TIMESTAMP, "type": "int"}), "type long"),
        (
            text("Interactions", {**USER_ID, "type": ["null", "string"]}, ITEM_ID, TIMESTAMP),
            "USER_ID must be of type string",
        ),
        (text("Items", ITEM_ID, {"name": "A", "type": {"type": "array"}}), "nested"),
        (text("Items", ITEM_ID, {"name": "A", "type": ["string", "int"]}), "one type"),
        (text("Items", ITEM_ID, {"name": "A", "type": "bytes"}), "one type"),
        (text("Items", ITEM_ID, {"name": "A", "type": "null"}), "one type"),
        (text("Items", ITEM_ID, GENRES, {"name": "GEN_RES", "type": "int"}), "do not differ"),
        (text("Items", ITEM_ID, {"name": "GENRES 1", "type": "int"}), "letters, digits"),
        (text("Items", ITEM_ID, {"name": "A", "type": "int", "categorical": True}), "only strings"),
        (text("Items", ITEM_ID, {**GENRES, "textual": True}), "both categorical and textual"),
        (text("Users", USER_ID, {"name": "A", "type": "string", "textual": True}), "only Items"),
        (
            text(
                "Items",
                ITEM_ID,
                *({"name": name, "type": "string", "textual": True} for name in "AB"),
            ),
            "at most 1",
        ),
        (
            text(
                "Interactions",
                *(USER_ID, ITEM_ID, TIMESTAMP),
                {"name": "EVENT_TYPE", "type": "string", "categorical": True},
            ),
            "cannot be categorical",
        ),
        (
            text(
                "Interactions",
                *(USER_ID, ITEM_ID, TIMESTAMP),
                {"name": "EVENT_VALUE", "type": "string"},
            ),
            "EVENT_VALUE must be of type float or null",
        ),
        (
            text("Items", ITEM_ID, {"name": "CREATION_TIMESTAMP", "type": "string"}),
            "CREATION_TIMESTAMP must be of type long",
        ),
        (
            text(
                "Interactions",
                *(USER_ID, ITEM_ID, TIMESTAMP),
                *({"name": f"M{number}", "type": "int"} for number in range(6)),
            ),
            "6 metadata fields",
        ),
        (
            text("Users", USER_ID, *({"name": f"M{n}", "type": "int"} for n in range(26))),
            "26 metadata fields",
        ),
    ],
)
def test_an_invalid_schema_is_refused_with_the_violated_rule(invalid: str, reason: str) -> None:
    """The message has the field."""
    with pytest.raises(ServiceError, match="InvalidInputException") as raised:
        parse(invalid)
    assert reason in raised.value.message


def test_a_replacement_keeps_all_fields_and_adds_only_nullable_ones() -> None:
    """The rules of "Replacing a dataset's schema"."""
    old = parse(text("Items", ITEM_ID, GENRES))
    added = {"name": "LANGUAGE", "type": ["null", "string"], "categorical": True}
    assert replacement_problem(old, parse(text("Items", ITEM_ID, GENRES, added))) is None
    strict = {"name": "LANGUAGE", "type": "string", "categorical": True}
    for new, reason in (
        (text("Items", ITEM_ID, added), "GENRES was removed"),
        (text("Items", ITEM_ID, {**GENRES, "categorical": False}), "GENRES was removed or changed"),
        (text("Items", ITEM_ID, GENRES, strict), "does not allow null"),
        (text("Users", USER_ID, GENRES), "holds ITEMS"),
    ):
        assert reason in str(replacement_problem(old, parse(new)))
    plays = parse(text("Interactions", USER_ID, ITEM_ID, TIMESTAMP))
    assert "cannot be replaced" in str(replacement_problem(plays, plays))
