"""What a line of an import may hold: "Preparing bulk data" in the developer guide.

Pure, and made for millions of lines: a batch is checked column by column with what runs in C, and
only a batch that has something wrong is looked at line by line for the message.

Stricter than is documented: a quotation mark in a text is escaped by a backslash, not doubled, and
a value does not span lines.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from emulators.personalize.control.schemas import KEYWORDS, DatasetSchema, Field

LONGEST_ID: Final = 256
LONGEST_CATEGORICAL: Final = 1_000
LATEST_SECOND: Final = 253_402_300_799  # 9999: milliseconds sent as seconds are beyond it
BATCH_LINES: Final = 20_000
_VALUE_SHOWN: Final = 80

Values: TypeAlias = Sequence[str]
_Holds: TypeAlias = Callable[[Values], bool]


class ImportRefused(Exception):
    """Why an import fails; its text becomes the job's failureReason."""


@dataclass(frozen=True, slots=True)
class _Rule:
    holds: _Holds
    expected: str


def batches(lines: Iterator[str], schema: DatasetSchema, name: str) -> Iterator[list[list[str]]]:
    """The rows of one CSV file in batches, checked; raises ImportRefused naming file and line.

    `lines` begins with the header. The values are texts as they stand in the file; empty is null.
    """
    found = _without_doubled_quotes(lines, name)
    reader = csv.reader(found, doublequote=False, escapechar="\\", strict=True)
    rules = [_rules(field) for field in schema.fields]
    header = next(_rows(reader, name), None)
    if header is None:
        raise ImportRefused(f"{name} is empty: the first line must be the header.")
    if header and header[0].startswith("\ufeff"):
        raise ImportRefused(f"{name} begins with a byte order mark; UTF-8 has none here.")
    if tuple(header) != schema.columns:
        raise ImportRefused(
            f"{name}: the header is {','.join(header)[:400]}; the schema demands "
            f"{','.join(schema.columns)}, in this order."
        )
    rows = _rows(reader, name)
    before = reader.line_num
    while batch := list(islice(rows, BATCH_LINES)):
        # Each row is one line exactly when the lines read are as many as the rows.
        if reader.line_num - before != len(batch):
            raise ImportRefused(
                f"{name}: between the lines {before + 1} and {reader.line_num} is a value with a "
                "line break."
            )
        _check(batch, schema, rules, name, before + 1)
        before = reader.line_num
        yield batch


def _without_doubled_quotes(lines: Iterator[str], name: str) -> Iterator[str]:
    """The same lines; Python's reader would take a doubled quotation mark as text."""
    for number, line in enumerate(lines, start=1):
        if '""' in line and _DOUBLED.search(line):
            raise ImportRefused(
                f"{name}, line {number} is not CSV as Personalize reads it: a quotation mark in a "
                "text is escaped by a backslash, not doubled."
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
    for field, of_field, values in zip(schema.fields, rules, zip(*batch, strict=True), strict=True):
        for rule in of_field:
            if rule.holds(values):
                continue
            for number, value in enumerate(values, first_line):
                if not rule.holds((value,)):
                    shown = value if len(value) <= _VALUE_SHOWN else f"{value[:_VALUE_SHOWN]}..."
                    raise ImportRefused(
                        f"{name}, line {number}: {field.name} is '{shown}', expected "
                        f"{rule.expected}."
                    )


def _rules(field: Field) -> tuple[_Rule, ...]:
    """The rules of a column; the first says what may be null."""
    found: list[_Rule] = []
    if not field.nullable:
        found.append(_Rule(lambda values: "" not in values, "a value, as null is not allowed"))
    if field.name in ("USER_ID", "ITEM_ID"):
        found.append(_longest(LONGEST_ID, "an id"))
    elif field.name in ("TIMESTAMP", "CREATION_TIMESTAMP"):
        found.append(_Rule(_all_seconds, "seconds since 1970 as a whole number"))
    elif field.type in ("int", "long"):
        bits = 31 if field.type == "int" else 63
        found.append(_Rule(_all_whole(2**bits), f"a whole number ({field.type}) or nothing"))
    elif field.type in ("float", "double"):
        found.append(_Rule(_all_numbers, "a number"))
    elif field.type == "boolean":
        found.append(
            _Rule(lambda values: set(map(str.lower, values)) <= _BOOLEANS, "true or false")
        )
    elif field.categorical:
        found.append(_longest(LONGEST_CATEGORICAL, "a categorical value"))
    if field.type == "string":
        found.append(_Rule(KEYWORDS.isdisjoint, "anything but a reserved keyword"))
    return tuple(found)


_DOUBLED: Final = re.compile(r'(?<![,\\])(?<!^)""')
_BOOLEANS: Final = frozenset(("true", "false", ""))
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")


def _longest(most: int, what: str) -> _Rule:
    return _Rule(
        lambda values: max(map(len, values)) <= most, f"{what} of at most {most} characters"
    )


def _all_seconds(values: Values) -> bool:
    present = [value for value in values if value] if "" in values else values
    if not all(map(str.isdecimal, present)) or not all(map(str.isascii, present)):
        return False
    longest = max(map(len, present), default=0)
    return longest <= 10 or (longest <= 15 and max(map(int, present)) <= LATEST_SECOND)


def _all_whole(bound: int) -> _Holds:
    def holds(values: Values) -> bool:
        return all(
            not value or (_WHOLE.fullmatch(value) is not None and -bound <= int(value) < bound)
            for value in values
        )

    return holds


def _all_numbers(values: Values) -> bool:
    try:
        numbers = [float(value) for value in values if value]
    except ValueError:
        return False
    total = sum(numbers)
    return total - total == 0 or all(number - number == 0 for number in numbers)
