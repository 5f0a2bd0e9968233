"""Personalize's rules as SQL expressions, so that a row is checked and written without Python.

Pure: text in, text out. An argument is a column (a plain reference: Flink repeats an expression at
each use). Sources are those of `connectors.personalize`: the resulting row is the record that the
stream would send.

A reason is one of :class:`Reason`; a CASE without a match is NULL: the row is good.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from batch.personalize_schemas import KEYWORDS
from connectors.personalize.datasets import MAX_TEXT_LENGTH
from connectors.personalize.requests import (
    IN_CATEGORY,
    MAX_IMPRESSION_ITEMS,
    MAX_RECOMMENDATION_ID_LENGTH,
)
from schemas.rules import FEBRUARY_1970_MS, MAX_ID_LENGTH, MAX_TIMESTAMP_MS, MIN_SECONDS

_BETWEEN: Final = "\x1e\x1f"
"""Between categories while ``|`` is replaced in them; no text of a record has both in a row."""

MAX_DURATION_MS: Final = 400_000_000_000_000
"""Beyond it ten thousand times a play time is no BIGINT; the completion is unknown then."""


class Reason(StrEnum):
    """Why a row is not imported; part of the report's format."""

    MISSING_ID = "missing_id"
    INVALID_ID = "invalid_id"
    NO_USER = "no_user"
    RESERVED_WORD = "reserved_word"
    TOO_LONG = "too_long"
    INVALID_VALUE = "invalid_value"
    FUTURE_TIMESTAMP = "future_timestamp"
    INVALID_IMPRESSION = "invalid_impression"
    DELETED = "deleted"
    SUPERSEDED = "superseded"


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def name(column: str) -> str:
    """A column's name, quoted."""
    return f"`{column}`"


def first_match(*cases: tuple[str, Reason]) -> str:
    """The reason of the first condition that holds, else NULL."""
    whens = "\n    ".join(f"WHEN {when} THEN '{reason}'" for when, reason in cases)
    return f"CASE\n    {whens}\n  END"


def missing(column: str) -> str:
    """Whether an id is missing."""
    return f"({column} IS NULL OR {column} = '')"


def invalid_id(column: str, maximum: int = MAX_ID_LENGTH) -> str:
    """Whether an id is too long, starts with a control character (see schemas.rules) or does not
    fit into one line."""
    return (
        f"(CHAR_LENGTH({column}) > {maximum} OR {column} < ' ' OR {column} LIKE '%\n%'"
        f" OR {column} LIKE '%\r%')"
    )


def too_long(column: str) -> str:
    """Whether a text is longer than a category may be; PutUsers and PutItems have the same
    limit."""
    return f"(CHAR_LENGTH({column}) > {MAX_TEXT_LENGTH})"


def reserved(column: str) -> str:
    """Whether a text is one of Personalize's reserved names."""
    words = ", ".join(literal(word) for word in KEYWORDS)
    return f"({column} IN ({words}))"


def any_of(conditions: Iterable[str]) -> str:
    """Whether one of the conditions holds; NULL counts as false."""
    return f"({' OR '.join(conditions) or 'FALSE'})"


def invalid_time(column: str) -> str:
    """Whether the time of an event is missing, no time of an event, or probably in another unit."""
    return f"({column} IS NULL OR {column} < {FEBRUARY_1970_MS} OR {column} > {MAX_TIMESTAMP_MS})"


def wrong_unit(column: str, *, seconds: bool = True) -> str:
    """Whether milliseconds since 1970 are probably seconds, micro- or nanoseconds."""
    conditions = [f"{column} > {MAX_TIMESTAMP_MS}"]
    if seconds:
        conditions.append(f"{column} BETWEEN {MIN_SECONDS} AND {FEBRUARY_1970_MS - 1}")
    return any_of(conditions)


def invalid_impression(column: str) -> str:
    """Whether an impression has too many items, or one with an invalid id.

    In a CSV file an impression is one value, in which ``|`` separates the ids: no id may have it.
    """
    joined = ids(column)
    return (
        f"(CARDINALITY({column}) > {MAX_IMPRESSION_ITEMS}"
        f" OR ARRAY_JOIN({column}, ',') LIKE '%|%'"
        f" OR ARRAY_CONTAINS({column}, '')"
        f" OR CARDINALITY({column}) > 0 AND ("
        f"REGEXP({joined}, '[^|]{{{MAX_ID_LENGTH + 1}}}') OR {joined} LIKE '%\n%'"
        f" OR {joined} LIKE '%\r%'))"
    )


def invalid_recommendation(column: str) -> str:
    """Whether a recommendation id is empty, too long or does not fit into one line."""
    return f"({column} = '' OR {invalid_id(column, MAX_RECOMMENDATION_ID_LENGTH)})"


def ids(column: str) -> str:
    """A list of ids as one value, without empty ones."""
    return f"ARRAY_JOIN(ARRAY_REMOVE({column}, ''), '|')"


def categories(column: str) -> str:
    """A list of categories as one value, as :func:`connectors.personalize.requests.categories`."""
    joined = f"ARRAY_JOIN(ARRAY_REMOVE({column}, ''), '{_BETWEEN}')"
    return f"REPLACE(REPLACE({joined}, '|', '{IN_CATEGORY}'), '{_BETWEEN}', '|')"


def text(column: str, *, is_category: bool = False) -> str:
    """A text as a CSV value; nothing for NULL.

    Each record is on one line, so a line break becomes a space. A text with a comma, a quotation
    mark or a backslash is quoted, and the latter two are escaped by a backslash. A category has
    another character instead of ``|``, which separates categories.
    """
    line = f"REPLACE(REPLACE({column}, '\r', ' '), '\n', ' ')"
    separated = ""
    if is_category:
        line = f"REPLACE({line}, '|', '{IN_CATEGORY}')"
        separated = f" OR {column} LIKE '%|%'"
    escaped = f"""REPLACE(REPLACE({line}, '\\', '\\\\'), '"', '\\"')"""
    return (
        f"CASE WHEN {column} IS NULL THEN ''"
        f" WHEN {column} LIKE '%,%' OR {column} LIKE '%\"%' OR {_backslash(column)}"
        f" THEN '\"' || {escaped} || '\"'"
        f" WHEN {column} LIKE '%\n%' OR {column} LIKE '%\r%'{separated} THEN {line}"
        f" ELSE {column} END"
    )


def plain(column: str) -> str:
    """A number or a truth value as a CSV value."""
    return f"COALESCE(CAST({column} AS STRING), '')"


def seconds(column: str) -> str:
    """Milliseconds as whole seconds; before 1970 is 0, as in connectors.personalize.datasets."""
    return f"COALESCE(CAST(GREATEST(0, {column}) / 1000 AS STRING), '')"


def completion(played: str, duration: str) -> str:
    """The completion of an item, with the digits of schemas.rules.completion."""
    share = f"(20000 * {played} + {duration}) / (2 * {duration})"
    return (
        f"CASE WHEN {played} > 0 AND {duration} BETWEEN 1 AND {MAX_DURATION_MS} THEN"
        f" CASE WHEN {played} >= {duration} THEN '1.0000'"
        f" WHEN {share} >= 10000 THEN '1.0000'"
        f" ELSE '0.' || LPAD(CAST({share} AS STRING), 4, '0') END"
        f" ELSE '' END"
    )


def csv_line(values: Iterable[str]) -> str:
    """One line of CSV values; by CONCAT, since each || would copy the text before it."""
    return "CONCAT(" + ", ',',\n  ".join(values) + ")"


def _backslash(column: str) -> str:
    return f"POSITION('\\' IN {column}) > 0"
