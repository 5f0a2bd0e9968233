"""Checks request bodies against botocore's service models.

botocore checks required members, types and minimum lengths before it sends a request, but no
maximum length, pattern or count: it sends 11 events or an id of 300 characters. The service refuses
them, and so does this module. Pure: it compiles a shape to a function that returns the violations
in a decoded JSON value.

Messages have AWS's form: "1 validation error detected: Value '...' at 'eventList' failed to
satisfy constraint: Member must have length less than or equal to 10". The value is omitted where
the model marks it as sensitive, also in a list or a structure.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from emulators.errors import ServiceError, invalid_input, malformed

MAX_VALUE_LENGTH = 1_000
MAX_FLOAT = 3.4028235e38
MAX_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z; milliseconds sent as seconds are larger."""

_JSON_TYPES: Mapping[type, str] = {
    str: "STRING_VALUE",
    bool: "BOOLEAN_VALUE",
    int: "NUMBER_VALUE",
    float: "NUMBER_VALUE",
    list: "START_ARRAY",
    dict: "START_OBJECT",
}


class Shape(Protocol):
    """The attributes used of a botocore `Shape` (botocore has no types)."""

    name: str
    type_name: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """A constraint that a value does not satisfy; `value` is None where it must not be shown."""

    path: str
    value: str | None
    constraint: str

    def under(self, parent: str) -> Violation:
        """The same violation, with a path that begins at the member `parent`."""
        return replace(self, path=f"{parent}.{self.path}" if self.path else parent)

    def text(self) -> str:
        """The violation in AWS's words."""
        value = "Value" if self.value is None else f"Value {self.value}"
        return f"{value} at '{self.path}' failed to satisfy constraint: {self.constraint}"


Violations: TypeAlias = tuple[Violation, ...]
Check: TypeAlias = Callable[[object], Violations]

_NONE: Violations = ()
_JAVA_CLASSES: Mapping[str, str] = {
    r"\p{ASCII}": r"[\x00-\x7f]",
    r"\p{L}\p{Z}\p{N}": "A-Za-z0-9 \u0080-\U0010ffff",
}


def compile_check(shape: Shape) -> Check:
    """Return a function that checks decoded JSON against `shape` and the shapes in it.

    The function raises `ServiceError` (SerializationException) for a value of another JSON type and
    returns all other violations. Recursive shapes are not supported; the models have none.
    """
    if shape.type_name not in _COMPILERS:
        raise NotImplementedError(f"shape {shape.name} of type {shape.type_name}")
    return _COMPILERS[shape.type_name](shape)


def violation_error(violations: Violations) -> ServiceError:
    """The error for a request with these violations (at least one)."""
    count = len(violations)
    noun = "validation error" if count == 1 else "validation errors"
    sentences = "; ".join(violation.text() for violation in violations)
    return invalid_input(f"{count} {noun} detected: {sentences}")


def _compile_structure(shape: Any) -> Check:
    required = frozenset(shape.metadata.get("required", ()))
    members = {
        name: (compile_check(member), name in required) for name, member in shape.members.items()
    }
    names = ", ".join(members)

    def check(value: object) -> Violations:
        if not isinstance(value, dict):
            raise _type_error(value, "a structure")
        violations: list[Violation] = []
        for name, (check_member, is_required) in members.items():
            member = value.get(name)
            if member is None:  # JSON null is an absent member
                if is_required:
                    violations.append(Violation(name, "null", "Member must not be null"))
                continue
            problems = check_member(member)
            if problems:
                violations.extend(problem.under(name) for problem in problems)
        if not value.keys() <= members.keys():
            # The service ignores unknown members. Here they are errors: a misspelt member of a
            # hand-made request would otherwise be lost silently.
            violations.extend(
                Violation(str(name), None, f"Member must be one of the model's: {names}")
                for name in value
                if name not in members
            )
        return tuple(violations)

    return check


def _compile_list(shape: Any) -> Check:
    hidden = _is_sensitive(shape)
    limits = _length_limits(shape.metadata)
    check_member = compile_check(shape.member)
    is_scalar = shape.member.type_name not in ("structure", "list", "map")

    def check(value: object) -> Violations:
        if not isinstance(value, list):
            raise _type_error(value, "a list")
        violations = _violations(value, hidden, _check_length(value, limits))
        inner: list[Violation] = []
        for position, member in enumerate(value, start=1):
            if member is None:
                violations.append(
                    Violation(f"{position}.member", "null", "Member must not be null")
                )
                continue
            problems = check_member(member)
            if problems:
                inner.extend(problem.under(f"{position}.member") for problem in problems)
        if inner and is_scalar:
            # AWS names the list, not the member, when the members are plain values.
            texts = ", ".join(dict.fromkeys(problem.constraint for problem in inner))
            constraint = f"Member must satisfy constraint: [{texts}]"
            violations += _violations(value, hidden, [constraint])
        else:
            violations.extend(inner)
        return tuple(violations)

    return check


def _compile_map(shape: Any) -> Check:
    hidden = _is_sensitive(shape)
    limits = _length_limits(shape.metadata)
    check_key = compile_check(shape.key)
    check_value = compile_check(shape.value)

    def check(value: object) -> Violations:
        if not isinstance(value, dict):
            raise _type_error(value, "a map")
        violations = _violations(value, hidden, _check_length(value, limits))
        for word, problems in (
            ("keys", [problem for key in value for problem in check_key(key)]),
            ("value", [problem for entry in value.values() for problem in check_value(entry)]),
        ):
            if problems:
                texts = ", ".join(dict.fromkeys(problem.constraint for problem in problems))
                constraint = f"Map {word} must satisfy constraint: [{texts}]"
                violations += _violations(value, hidden, [constraint])
        return tuple(violations)

    return check


def _compile_string(shape: Any) -> Check:
    hidden = _is_sensitive(shape)
    limits = _length_limits(shape.metadata)
    pattern = shape.metadata.get("pattern")
    # Java's classes (\d) are ASCII, and AWS matches the whole value.
    matches = re.compile(_translate_pattern(pattern), re.ASCII).fullmatch if pattern else None
    values = tuple(shape.enum or ())
    minimum, maximum = limits

    def check(value: object) -> Violations:
        if not isinstance(value, str):
            raise _type_error(value, "a String")
        if minimum <= len(value) <= maximum and matches is None and not values:
            return _NONE
        texts = _check_length(value, limits)
        if matches is not None and not matches(value):
            texts.append(f"Member must satisfy regular expression pattern: {pattern}")
        if values and value not in values:
            texts.append(f"Member must satisfy enum value set: [{', '.join(values)}]")
        return tuple(_violations(value, hidden, texts))

    return check


def _translate_pattern(pattern: str) -> str:
    """The pattern with Java's character classes in Python's syntax.

    Letters beyond ASCII are matched a little more widely than in Java; only tags have them.
    """
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return pattern


def _compile_number(shape: Any) -> Check:
    hidden = _is_sensitive(shape)
    minimum = shape.metadata.get("min")
    maximum = shape.metadata.get("max")
    is_integer = shape.type_name in ("integer", "long")
    noun = "an Integer" if is_integer else "a Float"

    def check(value: object) -> Violations:
        if isinstance(value, bool) or not isinstance(value, int if is_integer else (int, float)):
            raise _type_error(value, noun)
        if not -MAX_FLOAT <= value <= MAX_FLOAT:
            raise malformed(f"NUMBER_VALUE is out of the range of {noun}")
        texts = []
        if minimum is not None and value < minimum:
            texts.append(f"Member must have value greater than or equal to {minimum}")
        if maximum is not None and value > maximum:
            texts.append(f"Member must have value less than or equal to {maximum}")
        return tuple(_violations(value, hidden, texts))

    return check


def _check_timestamp(value: object) -> Violations:
    """A timestamp of rest-json: seconds since 1970, with or without a fraction, never a string."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _type_error(value, "a Timestamp (seconds since 1970 as a number)")
    if not 0 <= value <= MAX_SECOND:
        constraint = f"Member must be seconds since 1970, from 0 to {MAX_SECOND}"
        return tuple(_violations(value, False, [constraint]))
    return _NONE


def _check_boolean(value: object) -> Violations:
    if not isinstance(value, bool):
        raise _type_error(value, "a Boolean")
    return _NONE


def _compile_blob(shape: Any) -> Check:
    """Bytes, encoded as base64."""
    limits = _length_limits(shape.metadata)

    def check(value: object) -> Violations:
        if not isinstance(value, str):
            raise _type_error(value, "a Blob")
        try:
            content = base64.b64decode(value, validate=True)
        except ValueError as error:
            raise malformed(f"a Blob that is not base64: {error}") from error
        return tuple(_violations(content, True, _check_length(content, limits)))

    return check


_COMPILERS: Mapping[str, Callable[[Any], Check]] = {
    "structure": _compile_structure,
    "list": _compile_list,
    "map": _compile_map,
    "string": _compile_string,
    "integer": _compile_number,
    "long": _compile_number,
    "float": _compile_number,
    "double": _compile_number,
    "timestamp": lambda _: _check_timestamp,
    "boolean": lambda _: _check_boolean,
    "blob": _compile_blob,
}


def _length_limits(metadata: Mapping[str, Any]) -> tuple[float, float]:
    return metadata.get("min", 0), metadata.get("max", float("inf"))


def _check_length(
    value: str | bytes | list[Any] | dict[Any, Any], limits: tuple[float, float]
) -> list[str]:
    minimum, maximum = limits
    if len(value) < minimum:
        return [f"Member must have length greater than or equal to {minimum}"]
    if len(value) > maximum:
        return [f"Member must have length less than or equal to {maximum}"]
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


def _violations(value: object, hidden: bool, constraints: list[str]) -> list[Violation]:
    return [Violation("", _format_value(value, hidden), text) for text in constraints]


def _format_value(value: object, hidden: bool) -> str | None:
    if hidden:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > MAX_VALUE_LENGTH:
        text = f"{text[:MAX_VALUE_LENGTH]}..."
    return f"'{text}'"


def _type_error(value: object, expected: str) -> ServiceError:
    return malformed(f"{_JSON_TYPES.get(type(value), 'NULL')} can not be converted to {expected}")
