"""Filter expressions: "Filter expression structure and elements" in the developer guide.

Pure. A filter is one or more expressions, joined by ``|``; the items that pass one are filtered by
the next:

    INCLUDE|EXCLUDE ItemID WHERE condition [AND|OR condition]... [IF user condition [AND ...]]

A condition is ``Items.FIELD [NOT] IN (values)``, ``Items.FIELD < 20`` (=, !=, <, <=, >, >=, for
numbers), or ``Interactions.EVENT_TYPE [NOT] IN (values)``; those of one expression are of one
dataset. A user condition is of the same form for ``CurrentUser.FIELD``. Values are texts in
quotation marks and parameters (``$GENRE``); ``"*"`` stands for every event type.

Refused: users, actions, and CurrentItem, which is for related items. The guide does not say how AND
and OR are combined: here AND binds more strongly, as in SQL.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from emulators.errors import ServiceError, invalid_input
from emulators.personalize.control.schemas import DatasetSchema, Field

EVERYTHING: Final = "*"
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>\"[^\"]*\"|'[^']*')|(?P<parameter>\$\w+)|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*(?:\.\w+)?)|(?P<symbol><=|>=|!=|[<>=(),|*]))"
)
_NUMBERS: Final = ("int", "long", "float", "double")
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Dataset = Literal["ITEMS", "INTERACTIONS", "CURRENTUSER"]
_DATASETS: Final[Mapping[str, Dataset]] = {
    "ITEMS": "ITEMS",
    "INTERACTIONS": "INTERACTIONS",
    "CURRENTUSER": "CURRENTUSER",
}
_NOT_OFFERED: Final = {"USERS": "the dataset Users", "CURRENTITEM": "CurrentItem"}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a field; ``comparison`` is empty for IN."""

    dataset: Dataset
    field: str
    comparison: str
    negated: bool
    values: tuple[str, ...]
    parameters: tuple[str, ...]

    def is_met(self, values: Collection[Any], given: Mapping[str, str]) -> bool:
        """Whether one of a field's values meets it, for the parameters in ``given``."""
        if self.comparison:
            compare = _COMPARISONS[self.comparison]
            (wanted,) = self._wanted(given)
            return any(compare(float(value), float(wanted)) for value in values)
        texts = {str(value) for value in values}
        expected = set(self._wanted(given))
        if self.dataset == "INTERACTIONS":
            texts, expected = ({text.lower() for text in one} for one in (texts, expected))
        matches = bool(texts) if EVERYTHING in expected else not texts.isdisjoint(expected)
        return matches != self.negated

    def has_values(self, given: Mapping[str, str]) -> bool:
        """Whether there is something to compare with."""
        return bool(self.values) or any(name in given for name in self.parameters)

    def _wanted(self, given: Mapping[str, str]) -> Iterator[str]:
        yield from self.values
        for name in self.parameters:
            if name in given:
                yield from _parse_parameter(name, given[name], bool(self.comparison))


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression: ``alternatives`` are joined by OR, the conditions in each by AND."""

    includes: bool
    alternatives: tuple[tuple[Condition, ...], ...]
    user_conditions: tuple[Condition, ...]

    @property
    def dataset(self) -> Dataset:
        """The dataset of its conditions."""
        return self.alternatives[0][0].dataset

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions, those of the user too."""
        return (*(c for conditions in self.alternatives for c in conditions), *self.user_conditions)

    def applies_to(self, user: Mapping[str, Collection[Any]], given: Mapping[str, str]) -> bool:
        """Whether it filters for a user with these values of fields."""
        return all(c.is_met(user.get(c.field, ()), given) for c in self.user_conditions)

    def is_passed_by(self, item: Mapping[str, Collection[Any]], given: Mapping[str, str]) -> bool:
        """Whether an item passes with these values of fields.

        A condition without a value is left out, which only an expression that excludes may have.
        """
        used = [[c for c in cs if c.has_values(given)] for cs in self.alternatives]
        used = [conditions for conditions in used if conditions]
        if not used:
            return True
        matches = any(all(c.is_met(item.get(c.field, ()), given) for c in cs) for cs in used)
        return matches == self.includes


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter: an item passes it that passes all its expressions."""

    expressions: tuple[Expression, ...]

    @property
    def uses_interactions(self) -> bool:
        """Whether the user's events are needed."""
        return any(expression.dataset == "INTERACTIONS" for expression in self.expressions)

    @property
    def user_fields(self) -> frozenset[str]:
        """The fields of the user that are needed."""
        return frozenset(c.field for e in self.expressions for c in e.user_conditions)

    def check_values(self, given: Mapping[str, str]) -> None:
        """Raise InvalidInputException for a call's `filterValues`.

        For a value without a parameter, a parameter without a value in an expression that includes,
        and a value that cannot be compared; an expression that excludes may omit values.
        """
        known = {name for e in self.expressions for c in e.conditions for name in c.parameters}
        for name in given:
            if name not in known:
                raise invalid_input(f"The filter has no parameter '{name}'.")
        for expression in self.expressions:
            for condition in expression.conditions:
                for name in condition.parameters:
                    if name in given:
                        _parse_parameter(name, given[name], bool(condition.comparison))
                    elif expression.includes or condition.dataset == "CURRENTUSER":
                        raise invalid_input(f"The filter's parameter '{name}' has no value.")


def parse(
    expression: str, items: DatasetSchema | None, users: DatasetSchema | None = None
) -> Filter:
    """The filter of an expression; the schemas are those of the group's items and users, if any.

    Raises InvalidInputException for an invalid expression and for one that is not supported.
    """
    return _Parser(expression, items, users).parse()


class _Parser:
    """Reads an expression token by token."""

    def __init__(self, text: str, items: DatasetSchema | None, users: DatasetSchema | None) -> None:
        self._schemas = {"ITEMS": items, "CURRENTUSER": users}
        self._tokens = list(_tokens(text))
        self._position = 0

    def parse(self) -> Filter:
        expressions = [self._expression()]
        while self._skip("|"):
            expressions.append(self._expression())
        if self._kind:
            raise _malformed(f"after the end there is '{self._text}'")
        return Filter(tuple(expressions))

    def _expression(self) -> Expression:
        action = self._take("INCLUDE", "EXCLUDE")
        subject = self._text
        if subject.upper() in ("USERID", "ACTIONID"):
            raise _not_offered(f"{subject}: it recommends items")
        self._take("ITEMID")
        self._take("WHERE")
        alternatives = [[self._condition()]]
        while joint := self._skip("AND", "OR"):
            condition = self._condition()
            if condition.dataset != alternatives[0][0].dataset:
                raise invalid_input(
                    "The conditions of one filter expression must be of one dataset; join two "
                    "expressions by '|' for Items and Interactions."
                )
            if joint == "AND":
                alternatives[-1].append(condition)
            else:
                alternatives.append([condition])
        user_conditions = []
        if self._skip("IF"):
            user_conditions.append(self._condition(of_user=True))
            while self._skip("AND"):
                user_conditions.append(self._condition(of_user=True))
        return Expression(
            action == "INCLUDE",
            tuple(tuple(conditions) for conditions in alternatives),
            tuple(user_conditions),
        )

    def _condition(self, *, of_user: bool = False) -> Condition:
        name, _, field = self._text.partition(".")
        if self._kind != "name" or not field:
            raise _malformed(f"'{self._text}' is not a field such as Items.GENRES")
        self._position += 1
        dataset = _DATASETS.get(name.upper())
        if dataset is None:
            raise _not_offered(_NOT_OFFERED.get(name.upper(), f"the dataset {name}"))
        if of_user != (dataset == "CURRENTUSER"):
            raise invalid_input("CurrentUser is for the conditions after IF, and they are for it.")
        negated = bool(self._skip("NOT"))
        comparison = "" if negated else self._skip(*_COMPARISONS)
        if comparison:
            values, parameters = self._operand()
        else:
            self._take("IN")
            values, parameters = self._list(dataset)
        field = self._check_field(dataset, name, field, bool(comparison))
        return Condition(dataset, field, comparison, negated, values, parameters)

    def _check_field(self, dataset: Dataset, name: str, field: str, is_compared: bool) -> str:
        if dataset == "INTERACTIONS":
            if field.upper() != "EVENT_TYPE" or is_compared:
                raise invalid_input("Interactions can be filtered by their event type only.")
            return "EVENT_TYPE"
        schema = self._schemas[dataset]
        noun = "items" if dataset == "ITEMS" else "users"
        if schema is None:
            raise invalid_input(f"The dataset group has no {noun} dataset to filter by.")
        found: Field | None = schema.field(field)
        if found is None:
            raise invalid_input(f"The schema of the {noun} has no field {field}.")
        if found.type == "boolean" or found.textual:
            raise invalid_input(f"The field {field} is {found.type}, which filters do not support.")
        if is_compared and found.type not in _NUMBERS:
            raise invalid_input(
                f"The field {name}.{field} is {found.type}: only numbers can be compared; use IN."
            )
        return field

    def _operand(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        kind, text = self._kind, self._text
        self._position += 1
        if kind == "number":
            return (text,), ()
        if kind == "parameter":
            return (), (text[1:],)
        raise invalid_input(
            f"'{text}' in the filter expression is neither a number nor a parameter such as $YEAR."
        )

    def _list(self, dataset: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
        self._take("(")
        values: list[str] = []
        parameters: list[str] = []
        while True:
            kind, text = self._kind, self._text
            self._position += 1
            if kind == "parameter":
                parameters.append(text[1:])
            elif kind == "text":
                values.append(text[1:-1])
            else:
                raise invalid_input(
                    f"'{text}' in the filter expression is neither a text in quotation marks nor a "
                    "parameter such as $GENRE."
                )
            if not self._skip(","):
                break
        self._take(")")
        if EVERYTHING in values and dataset != "INTERACTIONS":
            raise invalid_input('"*" in a filter expression is for event types only.')
        return tuple(values), tuple(parameters)

    @property
    def _kind(self) -> str:
        return self._tokens[self._position][0] if self._position < len(self._tokens) else ""

    @property
    def _text(self) -> str:
        return self._tokens[self._position][1] if self._kind else "the end"

    def _skip(self, *words: str) -> str:
        """The next token in upper case, if it is one of the words; else nothing."""
        text = self._text.upper()
        if self._kind not in ("name", "symbol") or text not in words:
            return ""
        self._position += 1
        return text

    def _take(self, *words: str) -> str:
        word = self._skip(*words)
        if not word:
            raise _malformed(f"instead of {' or '.join(words)} there is '{self._text}'")
        return word


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _malformed(f"'{text[position:].strip()[:20]}' cannot be read")
        yield match.lastgroup, match[match.lastgroup]
        position = match.end()


def _parse_parameter(name: str, text: str, is_number: bool) -> list[str]:
    values = re.findall(r"\"([^\"]*)\"", text)
    is_quoted = bool(values) and not re.sub(r"\"[^\"]*\"|[\s,]", "", text)
    if is_number:
        number = values[0] if is_quoted and len(values) == 1 else text.strip()
        if re.fullmatch(r"-?\d+(\.\d+)?", number) is None:
            raise invalid_input(f"The value of the filter's parameter '{name}' must be a number.")
        return [number]
    if not is_quoted:
        raise invalid_input(
            f"The value of the filter's parameter '{name}' must be texts in quotation marks, "
            'separated by commas: "\\"rock\\",\\"pop\\"".'
        )
    return values


def _malformed(problem: str) -> ServiceError:
    return invalid_input(
        "The filter expression is not of the form INCLUDE|EXCLUDE ItemID WHERE Items.FIELD IN "
        f"(...) or ... Interactions.event_type IN (...): {problem}."
    )


def _not_offered(what: str) -> ServiceError:
    return invalid_input(f"The emulator does not offer {what} in a filter expression.")
