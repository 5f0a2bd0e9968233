"""Applies a filter to candidates, by the items' fields or the user's events, put or imported."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from emulators.personalize.control.bulk import BulkReader
from emulators.personalize.control.filters import Filter
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
    `Filter.filter_values` does.
    """
    filter_values = item_filter.filter_values(parameters)
    if filter_values is None:
        return list(items)
    if item_filter.dataset == "INTERACTIONS":
        values = _event_types(user_id, reader, bulk)
    else:
        values = _item_values(item_filter.field, items, reader, bulk)
    return [item for item in items if item_filter.is_passed_by(values.get(item, ()), filter_values)]


def camel_case(column: str) -> str:
    """The key of a schema's field in the properties of a put record: `AGE_BAND` is `ageBand`."""
    first, *others = column.lower().split("_")
    return first + "".join(part.capitalize() for part in others)


def _item_values(
    field: str, items: Sequence[str], reader: StoreReader, bulk: BulkReader
) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    key = camel_case(field)
    for chunk in _chunks(items):
        for item, record in bulk.records("ITEMS", chunk).items():
            values[item] = _split_categories(record.get(field))
        for item, properties in reader.properties("items", chunk).items():
            values[item] = _split_categories(json.loads(properties or "{}").get(key))
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


def _split_categories(value: Any) -> list[str]:
    return [part for part in str(value).split("|") if part] if value is not None else []


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _MAX_IDS_PER_STATEMENT):
        yield items[start : start + _MAX_IDS_PER_STATEMENT]
