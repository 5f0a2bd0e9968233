"""The saved objects for OpenSearch Dashboards: they show fields that the indices have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.local.settings import PROJECT

SAVED = sorted((PROJECT / "deploy" / "dashboards").glob("*.ndjson"))
TEMPLATES = sorted((PROJECT / "connectors" / "opensearch" / "templates").glob("*.json"))

Mapping = dict[str, str]
"""The type of each field of an index, by its full name."""

AGGREGATED = {
    "terms": {"keyword"},
    "cardinality": {"keyword"},
    "date_histogram": {"date"},
    "sum": {"long", "float"},
    "avg": {"long", "float"},
}
"""The field types of each aggregation in use."""

WANTED = {
    "tunemesh: plays per minute",
    "tunemesh: top items",
    "tunemesh: top genres",
    "tunemesh: plays by country",
    "tunemesh: completion by item type",
    "tunemesh: skips per minute",
}


@dataclass(frozen=True)
class Use:
    """A field that a saved object uses, and by which aggregation, if any."""

    object_id: str
    pattern: str
    field: str
    aggregation: str = ""


def objects() -> dict[tuple[str, str], dict[str, Any]]:
    lines = [line for file in SAVED for line in file.read_text(encoding="utf-8").splitlines()]
    loaded = [json.loads(line) for line in lines]
    found = {(entry["type"], entry["id"]): entry for entry in loaded}
    assert len(found) == len(loaded), "two objects with one id"
    return found


def mappings() -> dict[str, Mapping]:
    """The mapping behind each pattern of an index template."""
    found = {}
    for file in TEMPLATES:
        template = json.loads(file.read_text(encoding="utf-8"))
        properties = template["template"]["mappings"]["properties"]
        for pattern in template["index_patterns"]:
            found[pattern] = dict(flat(properties))
    return found


def flat(properties: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in properties.items():
        if "properties" in field:
            yield from flat(field["properties"], f"{prefix}{name}.")
        else:
            yield prefix + name, field["type"]


def title_of(entry: dict[str, Any]) -> str:
    """The index pattern that an object searches."""
    found = {(ref["type"], ref["id"]) for ref in entry["references"]}
    ((kind, pattern),) = {ref for ref in found if ref[0] == "index-pattern"}
    return str(objects()[kind, pattern]["attributes"]["title"])


def uses() -> Iterator[Use]:
    """Every use of a field: in aggregations, queries, filters, columns, sorting, as the time."""
    for (kind, name), entry in objects().items():
        attributes = entry["attributes"]
        if kind == "index-pattern":
            yield Use(name, attributes["title"], attributes["timeFieldName"], "date_histogram")
            continue
        source = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])
        if kind == "dashboard":
            assert source["query"]["query"] == ""
            assert source["filter"] == []
            continue
        pattern = title_of(entry)
        queried = re.findall(r"([\w.]+)\s*:", source["query"]["query"])
        filtered = [one["meta"]["key"] for one in source["filter"]]
        columns = [*attributes.get("columns", ()), *(n for n, _ in attributes.get("sort", ()))]
        for field in (*queried, *filtered, *columns):
            yield Use(name, pattern, field)
        for aggregation in json.loads(attributes.get("visState", '{"aggs": []}'))["aggs"]:
            if aggregation["type"] != "count":
                yield Use(name, pattern, aggregation["params"]["field"], aggregation["type"])


def test_every_field_in_use_is_in_its_index_template() -> None:
    """A renamed field of an index would leave a panel empty without any error."""
    known = mappings()
    absent = [use for use in uses() if use.field not in known[use.pattern]]
    assert not absent
    assert len({use.field for use in uses()}) > 10


def test_fields_are_of_a_type_that_can_be_aggregated_so() -> None:
    """Sums of numbers, terms of keywords, minutes of dates; any other panel shows an error."""
    known = mappings()
    wrong = [
        use
        for use in uses()
        if use.aggregation and known[use.pattern].get(use.field) not in AGGREGATED[use.aggregation]
    ]
    assert not wrong


def test_index_patterns_are_those_of_the_templates() -> None:
    """One for each template, and no other."""
    found = objects().items()
    titles = {entry["attributes"]["title"] for (kind, _), entry in found if kind == "index-pattern"}
    assert titles == set(mappings())


def test_trends_are_never_summed_over_several_dimensions() -> None:
    """A play counts in each of them: a panel without the dimension counts it four times."""
    dimensions = {"item", "genre", "item_type", "country"}
    for (kind, name), entry in objects().items():
        if kind == "visualization" and title_of(entry) == "tunemesh-trends":
            source = json.loads(entry["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
            match = re.fullmatch(r"dimension : (\w+)", source["query"]["query"])
            assert match, name
            assert match[1] in dimensions, name


def test_what_is_referred_to_is_there() -> None:
    """The file imports into an empty Dashboards without a conflict to resolve."""
    found = objects()
    for entry in found.values():
        for reference in entry["references"]:
            assert (reference["type"], reference["id"]) in found


def test_the_live_dashboard_shows_everything_wanted() -> None:
    """Each panel is a saved object, none overlaps another, and none is left out."""
    found = objects()
    dashboard = found["dashboard", "tunemesh-live"]
    assert dashboard["attributes"]["title"] == "tunemesh: live"
    panels = json.loads(dashboard["attributes"]["panelsJSON"])
    by_name = {ref["name"]: (ref["type"], ref["id"]) for ref in dashboard["references"]}
    shown = [found[by_name[panel["panelRefName"]]]["attributes"]["title"] for panel in panels]
    assert set(shown) >= WANTED
    assert len(shown) == len(set(shown)) == len(by_name)
    all_shown = {e["attributes"]["title"] for (k, _), e in found.items() if k == "visualization"}
    assert all_shown <= set(shown)
    cells = [
        (x, y)
        for grid in (panel["gridData"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 48


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_enriched_interactions_and_trends_have_a_template(template: Path) -> None:
    """Both files are read by these tests."""
    assert {path.stem for path in TEMPLATES} >= {"events", "trends"}
    assert json.loads(template.read_text(encoding="utf-8"))["index_patterns"]
