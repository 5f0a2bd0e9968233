"""The filter expressions that are understood, a small part of the service's.

Pure. One expression: `INCLUDE|EXCLUDE ItemID WHERE Items.FIELD [NOT] IN (values)`, or the same with
`Interactions.event_type`. Values are texts in quotation marks and parameters (`$GENRE`), or `"*"`
for all. Conditions joined by AND or OR, chains of expressions, comparisons and CurrentUser are
refused with an error that says so. Source: "Filter expressions" in the developer guide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from emulators.errors import ServiceError, invalid_input
from emulators.personalize.control.schemas import DatasetSchema

_EXPRESSION: Final = re.compile(
    r"\s*(?P<action>INCLUDE|EXCLUDE)\s+ItemID\s+WHERE\s+(?P<dataset>\w+)\.(?P<field>\w+)\s+"
    r"(?P<negated>NOT\s+)?IN\s*\(\s*(?P<values>[^()]*?)\s*\)\s*",
    re.IGNORECASE,
)
_VALUE: Final = re.compile(r"\"([^\"]*)\"|'([^']*)'|\$(\w+)")
_MORE: Final = re.compile(r"\||\b(?:AND|OR|IF|CurrentUser)\b|[<>=]", re.IGNORECASE)
EVERYTHING: Final = "*"


@dataclass(frozen=True, slots=True)
class Filter:
    """An expression: which items it lets through, by a field of theirs or by the user's events."""

    includes: bool
    dataset: Literal["ITEMS", "INTERACTIONS"]
    field: str
    negated: bool
    values: tuple[str, ...]
    parameters: tuple[str, ...]

    def wanted(self, given: Mapping[str, str]) -> frozenset[str] | None:
        """The values to compare with, for the call's `filterValues`; None: it filters nothing.

        Raises InvalidInputException for a value without a parameter, and for a missing one where
        the filter includes; one that excludes may leave it out.
        """
        for name in given:
            if name not in self.parameters:
                raise invalid_input(f"The filter has no parameter '{name}'.")
        missing = [name for name in self.parameters if name not in given]
        if missing and self.includes:
            raise invalid_input(f"The filter's parameter '{missing[0]}' has no value.")
        if missing and not self.values and len(missing) == len(self.parameters):
            return None
        found = set(self.values)
        for name in self.parameters:
            found.update(_given(name, given[name]) if name in given else ())
        return frozenset(found)

    def keeps(self, values: Collection[str], wanted: Collection[str]) -> bool:
        """Whether an item stays, whose field (or whose events' types) has these values."""
        if self.dataset == "INTERACTIONS":
            values = {value.lower() for value in values}
            wanted = {value.lower() for value in wanted}
        found = bool(values) if EVERYTHING in wanted else any(one in wanted for one in values)
        return (found != self.negated) == self.includes


def parse(expression: str, items: DatasetSchema | None) -> Filter:
    """The filter in `expression`; `items` is the schema of the group's items, where there is one.

    Raises InvalidInputException for what is wrong and for what is not understood here.
    """
    match = _EXPRESSION.fullmatch(expression)
    if match is None:
        if _MORE.search(expression):
            raise _not_offered("conditions joined by AND, OR or '|', comparisons, CurrentUser")
        raise invalid_input(
            "The filter expression is not of the form INCLUDE|EXCLUDE ItemID WHERE "
            "Items.FIELD IN (...) or ... Interactions.event_type IN (...)."
        )
    dataset = match["dataset"].upper()
    if dataset not in ("ITEMS", "INTERACTIONS"):
        raise _not_offered(f"the dataset {match['dataset']}")
    values, parameters = _values(match["values"])
    field = match["field"]
    if dataset == "INTERACTIONS":
        if field.upper() != "EVENT_TYPE":
            raise invalid_input("Interactions can be filtered by their event type only.")
        field = "EVENT_TYPE"
    else:
        _check_field(field, items)
    return Filter(
        includes=match["action"].upper() == "INCLUDE",
        dataset="ITEMS" if dataset == "ITEMS" else "INTERACTIONS",
        field=field,
        negated=match["negated"] is not None,
        values=values,
        parameters=parameters,
    )


def _values(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    values: list[str] = []
    parameters: list[str] = []
    for part in re.split(r"\s*,\s*(?=[\"'$])", text):
        match = _VALUE.fullmatch(part)
        if match is None:
            raise invalid_input(
                f"'{part}' in the filter expression is neither a text in quotation marks nor a "
                "parameter such as $GENRE."
            )
        if match[3] is not None:
            parameters.append(match[3])
        else:
            values.append(match[1] if match[1] is not None else match[2])
    return tuple(values), tuple(parameters)


def _check_field(name: str, items: DatasetSchema | None) -> None:
    if items is None:
        raise invalid_input("The dataset group has no Items dataset to filter by.")
    field = items.field(name)
    if field is None:
        raise invalid_input(f"The schema of the items has no field {name}.")
    if field.type == "boolean" or field.textual:
        raise invalid_input(f"The field {name} is {field.type}, by which nothing can be filtered.")


def _given(name: str, text: str) -> list[str]:
    found = re.findall(r"\"([^\"]*)\"", text)
    if not found or re.sub(r"\"[^\"]*\"|[\s,]", "", text):
        raise invalid_input(
            f"The value of the filter's parameter '{name}' must be texts in quotation marks, "
            'separated by commas: "\\"rock\\",\\"pop\\"".'
        )
    return found


def _not_offered(what: str) -> ServiceError:
    return invalid_input(f"The local Personalize does not offer {what} in a filter expression.")
