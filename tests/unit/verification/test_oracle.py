"""The destinations' oracle and the product agree on random records, each computing by itself."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connectors.personalize.datasets import (
    ITEMS,
    USERS,
    DatasetRecord,
    DatasetRequests,
    dataset_fields,
)
from jobs.trends import SEPARATOR, trend_facts
from schemas.model import Contract, Role, load_contracts
from schemas.projection import project_item, project_user
from schemas.records import EnrichedInteraction
from schemas.rules import probable_unit
from verification.destinations import dataset_properties, trends
from verification.reference import item_content, user_content

CONTRACTS = load_contracts()
MINUTE_MS = 60_000

texts = st.one_of(st.none(), st.text(max_size=3), st.sampled_from(["", "a", "b", "a\x1fb", "a|b"]))
numbers = st.one_of(st.none(), st.integers(-3, 10**7), st.sampled_from([0, 1, 2, 3, 8, 20_000]))
times = st.one_of(st.integers(-(10**13), 10**13), st.sampled_from([-1, 0, 999, -1000]))
items = st.none() | st.fixed_dictionaries(
    {
        "title": texts,
        "genres": st.lists(st.sampled_from(["rock", "fado", "", "x\x1fy"]), max_size=3),
        "item_type": texts,
        "duration_ms": numbers,
    }
)
enriched = st.fixed_dictionaries(
    {
        "event_id": st.uuids().map(str),
        "session_id": st.sampled_from(["s1", "s2"]),
        "user_id": st.sampled_from([None, "s1", "u2"]),
        "item_id": st.sampled_from(["i1", "i2"]),
        "item_type": st.sampled_from([None, "song"]),
        "event_type": st.sampled_from(["play", "complete", "skip", "like"]),
        "occurred_at": st.integers(-1, 2 * MINUTE_MS),
        "published_at": st.integers(0, 13 * MINUTE_MS),
        "played_ms": numbers,
        "item": items,
        "user": st.none() | st.fixed_dictionaries({"country": texts}),
    }
)


def aggregated(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What analytics.sql makes of the facts of the product."""
    groups: dict[tuple[str, int, str], list[tuple[Any, str]]] = defaultdict(list)
    for record in records:
        if (facts := trend_facts(cast("EnrichedInteraction", record))) is not None:
            for facet in facts.facets:
                dimension, value, label = facet.split(SEPARATOR)
                groups[dimension, facts.minute, value].append((facts, label))
    documents = {}
    for (dimension, minute, value), members in groups.items():
        shares = [facts.completion for facts, _ in members if facts.completion is not None]
        document = {
            "dimension": dimension,
            "key": value,
            "label": max((label for _, label in members if label), default=None),
            "window_start": minute,
            "plays": sum(facts.played for facts, _ in members),
            "skips": sum(facts.skipped for facts, _ in members),
            "listeners": len({facts.listener for facts, _ in members}),
            "completion": sum(shares) / len(shares) if shares else None,
            "version": len(members),
        }
        documents[f"{dimension}/{minute}/{value}"] = {
            name: content for name, content in document.items() if content is not None
        }
    return documents


@given(st.lists(enriched, max_size=8, unique_by=lambda record: str(record["event_id"])))
def test_trends(records: list[dict[str, Any]]) -> None:
    """Counts, labels, listeners, and the mean share to the last digit."""
    assert trends(records) == aggregated(records)


def records_of(contract: Contract) -> st.SearchStrategy[dict[str, Any]]:
    """Records of a contract by the types of its fields."""
    fields = {}
    for field in contract.newest.avro["fields"]:
        types = field["type"] if isinstance(field["type"], list) else [field["type"]]
        kinds = {each["type"] if isinstance(each, dict) else each for each in types}
        choices: list[st.SearchStrategy[Any]] = [st.none()] if "null" in kinds else []
        if "string" in kinds:
            choices.append(st.text("ab|\u00e9", max_size=4))
        if "array" in kinds:
            choices.append(st.lists(st.text("ab|", max_size=2), max_size=3))
        if "boolean" in kinds:
            choices.append(st.booleans())
        if kinds & {"int", "long"}:
            choices.append(times if field["name"].endswith("_at") else st.integers(0, 10**6))
        fields[field["name"]] = st.one_of(choices)
    return st.fixed_dictionaries(fields)


@pytest.mark.parametrize(
    "contract",
    [*CONTRACTS.with_role(Role.USER), *CONTRACTS.with_role(Role.ITEM)],
    ids=lambda contract: contract.name,
)
@given(data=st.data())
def test_properties_of_datasets(contract: Contract, data: st.DataObject) -> None:
    """Empty texts and categories are unknown, and what is older than 1970 was created in 1970."""
    record = data.draw(records_of(contract))
    created = contract.user and contract.user.created and record[contract.user.created]
    # A user's time in another unit is a dead letter, which reaches neither.
    assume(not created or probable_unit(created) is None)
    if contract.item:
        version = DatasetRecord("id", (1, 1), project_item(contract, record, "songs/0/0"))
        dataset, content = ITEMS, item_content(contract.item, record)
    else:
        assert contract.user is not None
        version = DatasetRecord("id", (1, 1), project_user(contract, record, "users/0/0"))
        dataset, content = USERS, user_content(contract.user, record)
    requests = DatasetRequests(dataset, dataset_fields(CONTRACTS, dataset))
    entry = requests.convert(version)
    assert not hasattr(entry, "code"), entry
    sent = json.loads(json.loads(entry.text).get("properties", "{}"))
    assert sent == dataset_properties(content)
