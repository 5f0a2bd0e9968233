"""Settings as fields: read from groups and environment variables by their declarations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import SettingError
from schemas.settings import (
    ENVIRONMENT,
    FOLDER,
    SWITCH,
    TEXT,
    TIMESTAMP,
    Kind,
    choice,
    declared,
    group,
    matching,
    read,
    reject_unknown,
    require,
    rest,
    separated,
    setting,
    whole,
)


@group("tunemesh.a")
class Example:
    """A field of another kind, settings with and without a default, the rest of two groups."""

    other: int
    needed: str = setting("needed", TEXT, "the needed text")
    number: int = setting("the.number", whole(1, 9), "a number", default="3")
    optional: str | None = setting("optional", TEXT, "a text", default=None)
    more: Mapping[str, str] = rest("any other", TEXT, "a property of the client", default={})
    switches: Mapping[str, bool] = rest(
        "any", SWITCH, "a switch", group="tunemesh.b", default={"x": True}
    )


@group(ENVIRONMENT)
class Variables:
    """Settings of a process."""

    number: int = setting("NUMBER", whole(1, 9), "a number", default="3")
    name: str | None = setting("NAME", TEXT, "the name of something", default=None)


def test_texts_become_values_and_missing_ones_defaults() -> None:
    """Spaces around a text are dropped, but those of properties without a declaration are kept."""
    groups = {
        "tunemesh.a": {"needed": " x ", "the.number": "9", "optional": "y", "sasl": " z "},
        "tunemesh.b": {"s": "true"},
    }
    assert read(Example, groups, other=1) == Example(1, "x", 9, "y", {"sasl": " z "}, {"s": True})
    # As does a class that is made without them.
    least = read(Example, {"tunemesh.a": {"needed": "x"}}, other=1)
    assert (least.number, least.optional, least.more, least.switches) == (3, None, {}, {})
    assert Example(1, "x") == Example(1, "x", 3, None, {}, {"x": True})


def test_an_empty_property_is_missing_only_where_there_is_no_default() -> None:
    """An empty environment variable always is."""
    groups = {"tunemesh.a": {"needed": "x", "optional": " "}}
    assert read(Example, groups, other=1).optional is None
    with pytest.raises(SettingError, match=r"'the.number' .* is ''; expected a whole number "):
        read(Example, {"tunemesh.a": {"needed": "x", "the.number": ""}}, other=1)
    assert read(Variables, {ENVIRONMENT: {"NUMBER": "", "NAME": ""}}) == Variables(3, None)


def test_an_error_names_the_setting_its_value_and_what_was_expected() -> None:
    """Of a text the description says what is expected."""
    name = "the property 'needed' of the group 'tunemesh.a'"
    with pytest.raises(SettingError, match=f"^{name} is missing; expected the needed text$"):
        read(Example, {}, other=1)
    with pytest.raises(SettingError, match=r"NUMBER is '10'; expected a whole number from 1 to 9"):
        read(Variables, {ENVIRONMENT: {"NUMBER": "10"}})
    groups = {"tunemesh.a": {"needed": "x"}, "tunemesh.b": {"s": "yes"}}
    with pytest.raises(SettingError, match=r"'s' of the group 'tunemesh.b' is 'yes'; expected tru"):
        read(Example, groups, other=1)


def test_a_secret_is_shown_nowhere() -> None:
    """Neither in an error nor in the settings' representation."""

    @group("tunemesh.s")
    class Secrets:
        password: str = setting("pass.word", matching("[a-z]+", "letters"), "a word", secret=True)
        more: Mapping[str, bool] = rest("any", SWITCH, "a switch", default={}, secret=True)

    values = read(Secrets, {"tunemesh.s": {"pass.word": "hunter", "x": "true"}})
    assert (values.password, values.more) == ("hunter", {"x": True})
    assert repr(values).endswith("Secrets()")
    for properties in ({"pass.word": "hunter2"}, {"pass.word": "x", "key.pem": "hunter2"}):
        with pytest.raises(SettingError, match=r"is invalid \(its value is not shown\)") as caught:
            read(Secrets, {"tunemesh.s": properties})
        assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingError, match=r"'pass.word' of the group 'tunemesh.s' is missing"):
        read(Secrets, {})


def test_a_setting_may_be_needed_by_some_callers_alone() -> None:
    """They require it."""
    assert require(Variables(name="x"), "name") == "x"
    with pytest.raises(SettingError, match=r"^NAME is missing; expected the name of something$"):
        require(Variables(), "name")


def test_unknown_names_are_rejected() -> None:
    """Of `tunemesh.*`: groups that no class declares, properties of groups without a rest."""

    @group("tunemesh.c")
    class Other:
        x: str = setting("x", TEXT, "x")
        y: str = setting("y", TEXT, "y")

    reject_unknown({"tunemesh.a": {"z": ""}, "tunemesh.b": {"z": ""}, "z": {"z": ""}}, Example)
    with pytest.raises(
        SettingError, match=r"group is 'tunemesh.d'; .* tunemesh.a, tunemesh.b, tun"
    ):
        reject_unknown({"tunemesh.d": {}}, Other, Example)
    with pytest.raises(
        SettingError, match=r"'z' of the group 'tunemesh.c' is unknown; expected one of .* x, y$"
    ):
        reject_unknown({"tunemesh.c": {"x": "", "z": "1"}}, Other, Example)


def test_declarations_are_listed_with_their_groups() -> None:
    """In their order; fields that are not settings are left out."""
    assert [(each.group, each.name, each.rest) for each in declared(Variables, Example)] == [
        (ENVIRONMENT, "NUMBER", False),
        (ENVIRONMENT, "NAME", False),
        ("tunemesh.a", "needed", False),
        ("tunemesh.a", "the.number", False),
        ("tunemesh.a", "optional", False),
        ("tunemesh.a", "any other", True),
        ("tunemesh.b", "any", True),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (choice("a", "b"), "b", "b"),
        (choice("a", "b"), "c", None),
        (SWITCH, "False", None),
        (separated(",", "names"), "a, ,b,", ("a", "b")),
        (separated(",", "names"), "", ()),
        (TIMESTAMP, "1970-01-01T00:00:01Z", 1000),
        (TIMESTAMP, "7", 7),
        (TIMESTAMP, "noon", None),
        (FOLDER, "/a/b", Path("/a/b")),
        (FOLDER, "b", Path.cwd() / "b"),
        (FOLDER, "~/b", Path.home() / "b"),
        (matching(r"a\d", "a1"), "a7", "a7"),
        (matching(r"a\d", "a1"), "a12", None),
        (matching(r"a\d", "a1"), "a\u0663", None),
        (whole(0, 9), "-1", None),
        (whole(0, 9), "\u0663", None),
        (TEXT, "a\nb", "a\nb"),
        (TEXT, "", None),
    ],
)
def test_a_text_has_a_value_or_is_invalid(kind: Kind[Any], text: str, value: object) -> None:
    """As its kind says."""
    if value is not None:
        assert kind.parse(text) == value
        return
    with pytest.raises((ValueError, LookupError)):
        kind.parse(text)
