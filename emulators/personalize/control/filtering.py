"""Applies a filter to candidates, by the items' fields or the user's events, put or imported."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from emulators.personalize.control.bulk import BulkReader
from emulators.personalize.control.filters import Filter
from emulators.personalize.rules import RecordKind
from emulators.personalize.store import StoreReader

MAX_CANDIDATES: Final = 2_000
"""The number of best items that a filter is applied to."""

MAX_EVENTS_PER_TYPE: Final = 100
"""The newest interactions of a user of each type that a filter considers, as in the service."""

_MAX_EVENTS: Final = 10_000
_MAX_IDS_PER_STATEMENT: Final = 500


def select_items(
    item_filter: Filter,
    parameters: Mapping[str, str],
    user_id: str,
    items: Sequence[str],
    reader: StoreReader,
    bulk: BulkReader,
) -> list[str]:
    """The `items` that pass the filter, in their order.

    `parameters` are the filterValues of the call. Raises InvalidInputException as
    `Filter.check_values` does.
    """
    item_filter.check_values(parameters)
    user = _values("USERS", item_filter.user_fields, (user_id,), reader, bulk)
    selected = list(items)
    for expression in item_filter.expressions:
        if not expression.applies_to(user.get(user_id, {}), parameters):
            continue
        if expression.dataset == "INTERACTIONS":
            events = _event_types(user_id, reader, bulk)
            values = {item: {"EVENT_TYPE": types} for item, types in events.items()}
        else:
            fields = frozenset(condition.field for condition in expression.conditions)
            values = _values("ITEMS", fields, selected, reader, bulk)
        selected = [
            item for item in selected if expression.is_passed_by(values.get(item, {}), parameters)
        ]
    return selected


def camel_case(column: str) -> str:
    """The key of a schema's field in the properties of a put record: `AGE_BAND` is `ageBand`."""
    first, *others = column.lower().split("_")
    return first + "".join(part.capitalize() for part in others)


def _values(
    kind: Literal["USERS", "ITEMS"],
    fields: Collection[str],
    ids: Sequence[str],
    reader: StoreReader,
    bulk: BulkReader,
) -> dict[str, dict[str, list[Any]]]:
    """The values of some fields of users or items, by id; put records precede imported ones."""
    values: dict[str, dict[str, list[Any]]] = {}
    if not fields:
        return values
    put: RecordKind = "users" if kind == "USERS" else "items"
    for chunk in _chunks(ids):
        for record_id, record in bulk.records(kind, chunk).items():
            values[record_id] = {name: _split_categories(record.get(name)) for name in fields}
        for record_id, properties in reader.properties(put, chunk).items():
            given = json.loads(properties or "{}")
            values[record_id] = {
                name: _split_categories(given.get(camel_case(name))) for name in fields
            }
    return values


def _event_types(user_id: str, reader: StoreReader, bulk: BulkReader) -> dict[str, list[str]]:
    rows = reader.latest_interactions(user_id, _MAX_EVENTS)
    rows += bulk.latest_interactions(user_id, _MAX_EVENTS)
    rows.sort(key=lambda row: -row[2])
    counts: Counter[str] = Counter()
    values: dict[str, list[str]] = {}
    for item, event_type, _ in rows:
        name = event_type.lower()
        counts[name] += 1
        if counts[name] <= MAX_EVENTS_PER_TYPE:
            values.setdefault(item, []).append(event_type)
    return values


def _split_categories(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part for part in value.split("|") if part]
    return [] if value is None else [value]


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _MAX_IDS_PER_STATEMENT):
        yield items[start : start + _MAX_IDS_PER_STATEMENT]
