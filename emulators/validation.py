"""Checks a request body against botocore's own service model.

botocore checks required members, types and minimum lengths before it sends, and no maximum length,
pattern or count: 11 events or a 300-character id go out on the wire. The service refuses them, and
so does this. Pure: a shape in, a function from a decoded JSON value to violations out.

The messages are AWS's own form: "1 validation error detected: Value '...' at 'eventList' failed to
satisfy constraint: Member must have length less than or equal to 10". The value is left out where
the model marks it as sensitive, also inside a list or a structure.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from emulators.errors import ServiceError, invalid_input, malformed

LONGEST_VALUE_SHOWN = 1_000
LARGEST_FLOAT = 3.4028235e38
LATEST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z: milliseconds sent as seconds are beyond it

_JSON_TYPES: Mapping[type, str] = {
    str: "STRING_VALUE",
    bool: "BOOLEAN_VALUE",
    int: "NUMBER_VALUE",
    float: "NUMBER_VALUE",
    list: "START_ARRAY",
    dict: "START_OBJECT",
}


class Shape(Protocol):
    """What is read of a botocore `Shape` (its own classes are not typed)."""

    name: str
    type_name: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """One constraint that a value does not satisfy; `value` is None where it must not be shown."""

    path: str
    value: str | None
    constraint: str

    def under(self, parent: str) -> Violation:
        """The same violation, seen from the member that holds it."""
        return replace(self, path=f"{parent}.{self.path}" if self.path else parent)

    def text(self) -> str:
        """AWS's sentence for it."""
        shown = "Value" if self.value is None else f"Value {self.value}"
        return f"{shown} at '{self.path}' failed to satisfy constraint: {self.constraint}"


Violations: TypeAlias = tuple[Violation, ...]
Check: TypeAlias = Callable[[object], Violations]

_NONE: Violations = ()
_JAVA_CLASSES: Mapping[str, str] = {
    r"\p{ASCII}": r"[\x00-\x7f]",
    r"\p{L}\p{Z}\p{N}": "A-Za-z0-9 \u0080-\U0010ffff",
}


def compile_check(shape: Shape) -> Check:
    """A function that checks decoded JSON against `shape` and all below it.

    The function raises `ServiceError` (SerializationException) for a value of another JSON type,
    and returns everything else that is wrong. Recursive shapes are not supported: none of
    Personalize's models has one.
    """
    if shape.type_name == "structure":
        return _structure(shape)
    if shape.type_name == "list":
        return _list(shape)
    if shape.type_name == "map":
        return _map(shape)
    return _scalar(shape)


def refuse(violations: Violations) -> ServiceError:
    """The error for a request with these violations (at least one)."""
    count = len(violations)
    noun = "validation error" if count == 1 else "validation errors"
    sentences = "; ".join(violation.text() for violation in violations)
    return invalid_input(f"{count} {noun} detected: {sentences}")


def _structure(shape: Any) -> Check:
    required = frozenset(shape.metadata.get("required", ()))
    members = {
        name: (compile_check(member), name in required) for name, member in shape.members.items()
    }
    names = ", ".join(members)

    def check(value: object) -> Violations:
        if not isinstance(value, dict):
            raise _wrong_type(value, "a structure")
        found: list[Violation] = []
        for name, (check_member, is_required) in members.items():
            member = value.get(name)
            if member is None:  # JSON null is an absent member
                if is_required:
                    found.append(Violation(name, "null", "Member must not be null"))
                continue
            problems = check_member(member)
            if problems:
                found.extend(problem.under(name) for problem in problems)
        if not value.keys() <= members.keys():
            # The service drops what it does not know. Here it is an error: a misspelt member of a
            # hand-made request would otherwise be lost in silence.
            found.extend(
                Violation(str(name), None, f"Member must be one of the model's: {names}")
                for name in value
                if name not in members
            )
        return tuple(found)

    return check


def _list(shape: Any) -> Check:
    hidden = _is_sensitive(shape)
    limits = _length_limits(shape.metadata)
    check_member = compile_check(shape.member)
    is_scalar = shape.member.type_name not in ("structure", "list", "map")

    def check(value: object) -> Violations:
        if not isinstance(value, list):
            raise _wrong_type(value, "a list")
        found = [Violation("", _shown(value, hidden), text) for text in _outside(value, limits)]
        inner: list[Violation] = []
        for position, member in enumerate(value, start=1):
            if member is None:
                found.append(Violation(f"{position}.member", "null", "Member must not be null"))
                continue
            problems = check_member(member)
            if problems:
                inner.extend(problem.under(f"{position}.member") for problem in problems)
        if inner and is_scalar:
            # AWS names the list, not the member, when the members are plain values.
            texts = ", ".join(dict.fromkeys(problem.constraint for problem in inner))
            constraint = f"Member must satisfy constraint: [{texts}]"
            found.append(Violation("", _shown(value, hidden), constraint))
        else:
            found.extend(inner)
        return tuple(found)

    return check


def _map(shape: Any) -> Check:
    hidden = _is_sensitive(shape)
    limits = _length_limits(shape.metadata)
    check_key = compile_check(shape.key)
    check_value = compile_check(shape.value)

    def check(value: object) -> Violations:
        if not isinstance(value, dict):
            raise _wrong_type(value, "a map")
        found = [Violation("", _shown(value, hidden), text) for text in _outside(value, limits)]
        for word, problems in (
            ("keys", [problem for key in value for problem in check_key(key)]),
            ("value", [problem for entry in value.values() for problem in check_value(entry)]),
        ):
            if problems:
                texts = ", ".join(dict.fromkeys(problem.constraint for problem in problems))
                constraint = f"Map {word} must satisfy constraint: [{texts}]"
                found.append(Violation("", _shown(value, hidden), constraint))
        return tuple(found)

    return check


def _scalar(shape: Any) -> Check:
    if shape.type_name == "string":
        return _string(shape)
    if shape.type_name in ("integer", "long"):
        return _number(shape, whole=True)
    if shape.type_name in ("float", "double"):
        return _number(shape, whole=False)
    if shape.type_name == "timestamp":
        return _timestamp
    if shape.type_name == "boolean":
        return _boolean
    if shape.type_name == "blob":
        return _blob(shape)
    raise NotImplementedError(f"shape {shape.name} of type {shape.type_name}")


def _string(shape: Any) -> Check:
    hidden = _is_sensitive(shape)
    limits = _length_limits(shape.metadata)
    pattern = shape.metadata.get("pattern")
    # Java's classes (\d) are ASCII, and AWS matches the whole value.
    matches = re.compile(_in_python(pattern), re.ASCII).fullmatch if pattern else None
    values = tuple(shape.enum or ())
    least, most = limits

    def check(value: object) -> Violations:
        if not isinstance(value, str):
            raise _wrong_type(value, "a String")
        if least <= len(value) <= most and matches is None and not values:
            return _NONE
        texts = _outside(value, limits)
        if matches is not None and not matches(value):
            texts.append(f"Member must satisfy regular expression pattern: {pattern}")
        if values and value not in values:
            texts.append(f"Member must satisfy enum value set: [{', '.join(values)}]")
        return tuple(Violation("", _shown(value, hidden), text) for text in texts)

    return check


def _in_python(pattern: str) -> str:
    """Java's classes in Python's words; letters beyond ASCII a little wider (tags have them)."""
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return pattern


def _number(shape: Any, *, whole: bool) -> Check:
    hidden = _is_sensitive(shape)
    least = shape.metadata.get("min")
    most = shape.metadata.get("max")
    noun = "an Integer" if whole else "a Float"

    def check(value: object) -> Violations:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise _wrong_type(value, noun)
        if not -LARGEST_FLOAT <= value <= LARGEST_FLOAT:
            raise malformed(f"NUMBER_VALUE is out of the range of {noun}")
        texts = []
        if least is not None and value < least:
            texts.append(f"Member must have value greater than or equal to {least}")
        if most is not None and value > most:
            texts.append(f"Member must have value less than or equal to {most}")
        return tuple(Violation("", _shown(value, hidden), text) for text in texts)

    return check


def _timestamp(value: object) -> Violations:
    """rest-json's default: seconds since 1970, with or without a fraction; never a string."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(value, "a Timestamp (seconds since 1970 as a number)")
    if not 0 <= value <= LATEST_SECOND:
        constraint = f"Member must be seconds since 1970, from 0 to {LATEST_SECOND}"
        return (Violation("", _shown(value, False), constraint),)
    return _NONE


def _boolean(value: object) -> Violations:
    if not isinstance(value, bool):
        raise _wrong_type(value, "a Boolean")
    return _NONE


def _blob(shape: Any) -> Check:
    """Bytes, which JSON has as base64."""
    limits = _length_limits(shape.metadata)

    def check(value: object) -> Violations:
        if not isinstance(value, str):
            raise _wrong_type(value, "a Blob")
        try:
            content = base64.b64decode(value, validate=True)
        except ValueError as error:
            raise malformed(f"a Blob that is not base64: {error}") from error
        return tuple(Violation("", None, text) for text in _outside(content, limits))

    return check


def _length_limits(metadata: Mapping[str, Any]) -> tuple[float, float]:
    return metadata.get("min", 0), metadata.get("max", float("inf"))


def _outside(
    value: str | bytes | list[Any] | dict[Any, Any], limits: tuple[float, float]
) -> list[str]:
    least, most = limits
    if len(value) < least:
        return [f"Member must have length greater than or equal to {least}"]
    if len(value) > most:
        return [f"Member must have length less than or equal to {most}"]
    return []


def _is_sensitive(shape: Any) -> bool:
    """Whether the model marks this shape, or anything in it, as sensitive."""
    if shape.metadata.get("sensitive"):
        return True
    if shape.type_name == "structure":
        return any(_is_sensitive(member) for member in shape.members.values())
    if shape.type_name == "list":
        return _is_sensitive(shape.member)
    if shape.type_name == "map":
        return _is_sensitive(shape.key) or _is_sensitive(shape.value)
    return False


def _shown(value: object, hidden: bool) -> str | None:
    if hidden:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_VALUE_SHOWN:
        text = f"{text[:LONGEST_VALUE_SHOWN]}..."
    return f"'{text}'"


def _wrong_type(value: object, wanted: str) -> ServiceError:
    return malformed(f"{_JSON_TYPES.get(type(value), 'NULL')} can not be converted to {wanted}")
