"""The rules of CSV files for imports: "Preparing bulk data" in the developer guide.

Pure, and fast for millions of lines: a batch is checked column by column with built-in functions;
only an invalid batch is checked line by line, for the message.

Stricter than the documentation: a quotation mark in a text must be escaped by a backslash, not
doubled, and a value must not span lines.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from emulators.personalize.control.schemas import KEYWORDS, DatasetSchema, Field
from emulators.validation import MAX_SECOND

MAX_ID_LENGTH: Final = 256
MAX_CATEGORICAL_LENGTH: Final = 1_000
BATCH_LINES: Final = 20_000
_MAX_VALUE_LENGTH: Final = 80

Values: TypeAlias = Sequence[str]
_Check: TypeAlias = Callable[[Values], bool]


class ImportRefused(Exception):
    """An import fails; the message becomes the job's failureReason."""


@dataclass(frozen=True, slots=True)
class _Rule:
    is_satisfied: _Check
    expected: str


def read_batches(
    lines: Iterator[str], schema: DatasetSchema, name: str
) -> Iterator[list[list[str]]]:
    """The checked rows of a CSV file in batches; raises ImportRefused with file and line.

    `lines` begins with the header. The values are the texts of the file; an empty one is null.
    """
    reader = csv.reader(
        _without_refused_quotes(lines, name), doublequote=False, escapechar="\\", strict=True
    )
    rules = [_rules(field) for field in schema.fields]
    header = next(_rows(reader, name), None)
    if header is None:
        raise ImportRefused(f"{name} is empty: the first line must be the header.")
    if header and header[0].startswith("\ufeff"):
        raise ImportRefused(f"{name} begins with a byte order mark, which is not allowed.")
    if tuple(header) != schema.columns:
        raise ImportRefused(
            f"{name}: the header is {','.join(header)[:400]}; the schema requires "
            f"{','.join(schema.columns)}, in this order."
        )
    rows = _rows(reader, name)
    before = reader.line_num
    while batch := list(islice(rows, BATCH_LINES)):
        # Each row is one line if and only if the numbers of rows and lines are equal.
        if reader.line_num - before != len(batch):
            raise ImportRefused(
                f"{name}: a value between the lines {before + 1} and {reader.line_num} has a line "
                "break."
            )
        _check(batch, schema, rules, name, before + 1)
        before = reader.line_num
        yield batch


def _without_refused_quotes(lines: Iterator[str], name: str) -> Iterator[str]:
    """The same lines; raises ImportRefused for quotation marks that csv accepts and the guide not.

    Those are doubled ones, and any in the header.
    """
    for number, line in enumerate(lines, start=1):
        if number == 1 and '"' in line:
            raise ImportRefused(
                f"{name}: the names in the header must not be in quotation marks, but it is "
                f"{line.strip()[:400]}"
            )
        if '""' in line and _DOUBLED.search(line):
            raise ImportRefused(
                f"{name}, line {number} is not CSV as Personalize reads it: a quotation mark in a "
                "text must be escaped by a backslash, not doubled."
            )
        yield line


def _rows(reader: Iterator[list[str]], name: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        raise ImportRefused(f"{name}, line {line} is not CSV: {error}.") from error
    except UnicodeDecodeError as error:
        raise ImportRefused(f"{name} is not in UTF-8: {error}.") from error


def _check(
    batch: list[list[str]],
    schema: DatasetSchema,
    rules: Sequence[Sequence[_Rule]],
    name: str,
    first_line: int,
) -> None:
    width = len(schema.fields)
    if set(map(len, batch)) != {width}:
        number, row = next((n, row) for n, row in enumerate(batch, first_line) if len(row) != width)
        raise ImportRefused(f"{name}, line {number} has {len(row)} values, expected {width}.")
    for field, field_rules, values in zip(
        schema.fields, rules, zip(*batch, strict=True), strict=True
    ):
        for rule in field_rules:
            if rule.is_satisfied(values):
                continue
            for number, value in enumerate(values, first_line):
                if not rule.is_satisfied((value,)):
                    text = (
                        value
                        if len(value) <= _MAX_VALUE_LENGTH
                        else f"{value[:_MAX_VALUE_LENGTH]}..."
                    )
                    raise ImportRefused(
                        f"{name}, line {number}: {field.name} is '{text}', expected "
                        f"{rule.expected}."
                    )


def _rules(field: Field) -> tuple[_Rule, ...]:
    """The rules of a column; the first one is on null values."""
    rules: list[_Rule] = []
    if not field.nullable:
        rules.append(_Rule(lambda values: "" not in values, "a value, as null is not allowed"))
    if field.name in ("USER_ID", "ITEM_ID"):
        rules.append(_max_length(MAX_ID_LENGTH, "an id"))
    elif field.name in ("TIMESTAMP", "CREATION_TIMESTAMP"):
        rules.append(_Rule(_has_only_seconds, "seconds since 1970 as a whole number"))
    elif field.type in ("int", "long"):
        bits = 31 if field.type == "int" else 63
        rules.append(_Rule(_integers_below(2**bits), f"a whole number ({field.type}) or nothing"))
    elif field.type in ("float", "double"):
        rules.append(_Rule(_has_only_numbers, "a number"))
    elif field.type == "boolean":
        rules.append(
            _Rule(lambda values: set(map(str.lower, values)) <= _BOOLEANS, "true or false")
        )
    elif field.categorical:
        rules.append(_max_length(MAX_CATEGORICAL_LENGTH, "a categorical value"))
    if field.type == "string":
        rules.append(_Rule(KEYWORDS.isdisjoint, "anything but a reserved keyword"))
    return tuple(rules)


_DOUBLED: Final = re.compile(r'(?<![,\\])(?<!^)""')
_BOOLEANS: Final = frozenset(("true", "false", ""))
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")


def _max_length(length: int, noun: str) -> _Rule:
    return _Rule(
        lambda values: max(map(len, values)) <= length, f"{noun} of at most {length} characters"
    )


def _has_only_seconds(values: Values) -> bool:
    present = [value for value in values if value] if "" in values else values
    if not all(map(str.isdecimal, present)) or not all(map(str.isascii, present)):
        return False
    longest = max(map(len, present), default=0)
    return longest <= 10 or (longest <= 15 and max(map(int, present)) <= MAX_SECOND)


def _integers_below(bound: int) -> _Check:
    def is_satisfied(values: Values) -> bool:
        return all(
            not value or (_WHOLE.fullmatch(value) is not None and -bound <= int(value) < bound)
            for value in values
        )

    return is_satisfied


def _has_only_numbers(values: Values) -> bool:
    try:
        numbers = [float(value) for value in values if value]
    except ValueError:
        return False
    total = sum(numbers)
    return total - total == 0 or all(number - number == 0 for number in numbers)
