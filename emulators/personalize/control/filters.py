"""The supported filter expressions, a subset of the service's.

Pure. One expression: `INCLUDE|EXCLUDE ItemID WHERE Items.FIELD [NOT] IN (values)`, or the same with
`Interactions.event_type`. Values are texts in quotation marks and parameters (`$GENRE`), or `"*"`
for all. Conditions joined by AND or OR, chains of expressions, comparisons and CurrentUser are
refused. Source: "Filter expressions" in the developer guide.
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
    """A filter expression: selects items by one of their fields or by the user's events."""

    includes: bool
    dataset: Literal["ITEMS", "INTERACTIONS"]
    field: str
    negated: bool
    values: tuple[str, ...]
    parameters: tuple[str, ...]

    def filter_values(self, given: Mapping[str, str]) -> frozenset[str] | None:
        """The values to compare with, for the call's `filterValues`; None: every item passes.

        Raises InvalidInputException for a value without a parameter, and for a parameter without a
        value in a filter that includes; a filter that excludes may omit values.
        """
        for name in given:
            if name not in self.parameters:
                raise invalid_input(f"The filter has no parameter '{name}'.")
        missing = [name for name in self.parameters if name not in given]
        if missing and self.includes:
            raise invalid_input(f"The filter's parameter '{missing[0]}' has no value.")
        if missing and not self.values and len(missing) == len(self.parameters):
            return None
        values = set(self.values)
        for name in self.parameters:
            values.update(_parse_parameter(name, given[name]) if name in given else ())
        return frozenset(values)

    def is_passed_by(self, values: Collection[str], filter_values: Collection[str]) -> bool:
        """Whether an item passes whose field (or whose events' types) has these values."""
        if self.dataset == "INTERACTIONS":
            values = {value.lower() for value in values}
            filter_values = {value.lower() for value in filter_values}
        matches = (
            bool(values)
            if EVERYTHING in filter_values
            else any(value in filter_values for value in values)
        )
        return (matches != self.negated) == self.includes


def parse(expression: str, items: DatasetSchema | None) -> Filter:
    """The filter of an expression; `items` is the schema of the group's items, if it has one.

    Raises InvalidInputException for an invalid expression and for one that is not supported.
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
    values, parameters = _parse_values(match["values"])
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


def _parse_values(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
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
        raise invalid_input(f"The field {name} is {field.type}, which filters do not support.")


def _parse_parameter(name: str, text: str) -> list[str]:
    values = re.findall(r"\"([^\"]*)\"", text)
    if not values or re.sub(r"\"[^\"]*\"|[\s,]", "", text):
        raise invalid_input(
            f"The value of the filter's parameter '{name}' must be texts in quotation marks, "
            'separated by commas: "\\"rock\\",\\"pop\\"".'
        )
    return values


def _not_offered(what: str) -> ServiceError:
    return invalid_input(f"The emulator does not offer {what} in a filter expression.")
