"""The plans as they are kept, their ids, and what applications are made of them."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest

from jobs.settings import PIPELINES
from jobs.submission.plan import (
    NODE_IDS,
    PLANS,
    Plan,
    compose_plan,
    number_nodes,
    plan_file,
    read_plan,
)
from tests.support.releases import APPLICATIONS


def kept(pipeline: str) -> Plan:
    plan: Plan = json.loads(plan_file(pipeline).read_text("ascii"))
    return plan


def components(plan: dict[str, list[dict[str, int]]]) -> int:
    """Into how many parts a plan falls that no edge connects."""
    parts = {node["id"]: {node["id"]} for node in plan["nodes"]}
    for edge in plan["edges"]:
        source, target = parts[edge["source"]], parts[edge["target"]]
        if source is not target:
            source |= target
            parts.update(dict.fromkeys(target, source))
    return len({id(part) for part in parts.values()})


def ids(plan: Plan) -> list[int]:
    return [node["id"] for node in plan["nodes"]]


def test_there_is_a_plan_of_each_pipeline_and_no_other() -> None:
    """An application's plan is made of them."""
    assert {file.name for file in PLANS.iterdir()} == {f"{name}.json" for name in PIPELINES}
    assert len({kept(pipeline)["flinkVersion"] for pipeline in PIPELINES}) == 1


def test_no_id_is_in_the_ranges_of_two_pipelines() -> None:
    """Else two operators of an application would have one uid."""
    assert set(NODE_IDS) == set(PIPELINES)
    available = [*chain(*chain(*NODE_IDS.values()))]
    assert len(available) == len(set(available))


@pytest.mark.parametrize("pipelines", APPLICATIONS, ids="_".join)
def test_an_applications_plan_is_those_of_its_pipelines_side_by_side(
    pipelines: tuple[str, ...],
) -> None:
    """No operator is shared, so that a pipeline that fails restarts alone, and none waits for
    another's checkpoint barrier. Each node, edge and id is as in the pipeline's own plan."""
    plan = json.loads(read_plan(pipelines))
    assert components(plan) == len(pipelines)
    assert len(set(ids(plan))) == len(ids(plan))
    for part in ("nodes", "edges"):
        assert plan[part] == [one for pipeline in pipelines for one in kept(pipeline)[part]]
    assert plan["flinkVersion"] == kept(pipelines[0])["flinkVersion"]


@pytest.mark.parametrize("grown", PIPELINES)
def test_a_pipeline_that_grows_leaves_the_ids_of_the_others(grown: str) -> None:
    """Also when it has outgrown its first range."""
    plan = kept(grown)
    added: list[dict[str, Any]] = [{"id": f"new {n}", "type": "t"} for n in range(200)]
    plan["nodes"] = number_nodes({**plan, "nodes": [*added, *plan["nodes"]]}, NODE_IDS[grown])[
        "nodes"
    ]
    others = [kept(pipeline) for pipeline in PIPELINES if pipeline != grown]
    whole = ids(compose_plan([plan, *others]))
    assert len(set(whole)) == len(whole)
    assert whole[len(plan["nodes"]) :] == [*chain(*map(ids, others))]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_nodes_of_a_plan_are_numbered_by_the_pipelines_ranges(pipeline: str) -> None:
    """A number is part of an operator's uid: it must not depend on what was compiled before."""
    found = ids(kept(pipeline))
    assert found == [*chain(*NODE_IDS[pipeline])][: len(found)]


def test_numbering_keeps_the_edges() -> None:
    """Each still joins the nodes that it joined; the second range follows the first."""
    given = {
        "flinkVersion": "2.2",
        "nodes": [{"id": 7, "type": "a"}, {"id": 9, "type": "b"}, {"id": 8, "type": "c"}],
        "edges": [{"source": 7, "target": 8, "shuffle": "x"}, {"source": 8, "target": 9}],
    }
    assert number_nodes(given, (range(4, 6), range(20, 30))) == {
        "flinkVersion": "2.2",
        "nodes": [{"id": 4, "type": "a"}, {"id": 5, "type": "b"}, {"id": 20, "type": "c"}],
        "edges": [{"source": 4, "target": 20, "shuffle": "x"}, {"source": 20, "target": 5}],
    }


def test_a_plan_with_more_nodes_than_ids_is_refused() -> None:
    """Its last operators would have the uids of another pipeline's."""
    nodes = [{"id": number} for number in range(4)]
    with pytest.raises(ValueError, match="4 nodes and 3 ids"):
        number_nodes({"nodes": nodes, "edges": []}, (range(1), range(5, 7)))
