"""A filter's word on candidates: what is known of items and of a user's events, put or imported."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from emulators.personalize.control.bulk import BulkReader
from emulators.personalize.control.filters import Filter
from emulators.personalize.store import StoreReader

CANDIDATES: Final = 2_000
"""How many of the best items a filter is applied to."""

LATEST_PER_TYPE: Final = 100
"""How many of a user's newest interactions of one type a filter knows of, as in the service."""

_LATEST: Final = 10_000
_IDS_A_STATEMENT: Final = 500


def kept(
    found: Filter,
    given: Mapping[str, str],
    user_id: str,
    items: Sequence[str],
    reader: StoreReader,
    bulk: BulkReader,
) -> list[str]:
    """Those of `items` that the filter lets through, in their order.

    `given`: the call's filterValues. Raises InvalidInputException as `Filter.wanted` does.
    """
    wanted = found.wanted(given)
    if wanted is None:
        return list(items)
    if found.dataset == "INTERACTIONS":
        values = _event_types(user_id, reader, bulk)
    else:
        values = _item_values(found.field, items, reader, bulk)
    return [item for item in items if found.keeps(values.get(item, ()), wanted)]


def camel_case(column: str) -> str:
    """A schema's field as a key of the properties that are put: `AGE_BAND` is `ageBand`."""
    first, *others = column.lower().split("_")
    return first + "".join(part.capitalize() for part in others)


def _item_values(
    field: str, items: Sequence[str], reader: StoreReader, bulk: BulkReader
) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    key = camel_case(field)
    for chunk in _chunks(items):
        for item, record in bulk.records("ITEMS", chunk).items():
            values[item] = _parts(record.get(field))
        for item, properties in reader.properties("items", chunk).items():
            values[item] = _parts(json.loads(properties or "{}").get(key))
    return values


def _event_types(user_id: str, reader: StoreReader, bulk: BulkReader) -> dict[str, list[str]]:
    rows = reader.latest_interactions(user_id, _LATEST)
    rows += bulk.latest_interactions(user_id, _LATEST)
    rows.sort(key=lambda row: -row[2])
    of_type: Counter[str] = Counter()
    values: dict[str, list[str]] = {}
    for item, event_type, _ in rows:
        name = event_type.lower()
        of_type[name] += 1
        if of_type[name] <= LATEST_PER_TYPE:
            values.setdefault(item, []).append(event_type)
    return values


def _parts(value: Any) -> list[str]:
    return [part for part in str(value).split("|") if part] if value is not None else []


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _IDS_A_STATEMENT):
        yield items[start : start + _IDS_A_STATEMENT]
