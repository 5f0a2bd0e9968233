"""Compiled plans: one a pipeline, kept in ``jobs/plans/`` so that a change is a visible diff.

An application's plan is the plans of its pipelines side by side. Operators keep their ids as long
as their pipeline's plan is unchanged, so a savepoint restores under changed Python code, settings
and contracts, and with another pipeline added. Frozen API: a changed plan is deliberate and in the
changelog.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pyflink.table import PlanReference, StreamTableEnvironment

from connectors.flink.internals.left_join import (
    create_temporal_function,
    execute_with_left_joins,
)
from jobs.sql import read_steps
from jobs.trends import STATE_TTL_MS

PLANS = Path(__file__).parents[1] / "plans"

Plan = dict[str, Any]
"""A compiled plan as Flink writes it: ``flinkVersion``, ``nodes``, ``edges``."""

NODE_IDS: Mapping[str, tuple[range, ...]] = {
    "enrichment": (range(1000, 2000),),
    "recommendations": (range(30, 76), range(2000, 3000)),
    "analytics": (range(76, 115), range(3000, 4000)),
}
"""The ids of each pipeline's nodes, in the plan's order; no two pipelines share one.

A node's id is part of its operator's uid. The ranges below 1000 are those that the pipelines had in
the plans of 0.1.0 with all three; nodes beyond them are in the second. The enrichment had 1 to 29,
with another state: its savepoints must not restore into today's operators.
"""

TEMPORAL_FUNCTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "versions": {"items_at": ("item_versions", "item_id"), "users_at": ("user_versions", "user_id")}
}
"""The functions that are created behind a step of the SQL: their view and its key."""

LEFT_JOIN = "stream-exec-temporal-join"
"""The type of a plan's nodes that are made LEFT joins at the submission."""


def plan_file(pipeline: str) -> Path:
    """The file with the plan of a pipeline."""
    return PLANS / f"{pipeline}.json"


def read_plan(pipelines: Iterable[str]) -> str:
    """The text of the plan of an application with these pipelines."""
    files = [plan_file(pipeline) for pipeline in pipelines]
    return json.dumps(compose_plan([json.loads(file.read_text("ascii")) for file in files]))


def compose_plan(plans: Sequence[Plan]) -> Plan:
    """One plan of several, without an edge between them; no two may share an id."""
    return {
        "flinkVersion": plans[0]["flinkVersion"],
        "nodes": [node for plan in plans for node in plan["nodes"]],
        "edges": [edge for plan in plans for edge in plan["edges"]],
    }


def compile_plan(tables: StreamTableEnvironment, pipeline: str) -> str:
    """Compile a pipeline's SQL to the text of its plan. What the SQL names has to be registered."""
    steps = read_steps(f"{pipeline}.sql")
    inserts = steps.pop("out")
    for step, created in steps.items():
        for statement in created:
            tables.execute_sql(statement)
        for name, (view, key) in TEMPORAL_FUNCTIONS.get(step, {}).items():
            create_temporal_function(tables, name, view, "arrived", key)
    statements = tables.create_statement_set()
    for insert in inserts:
        statements.add_insert_sql(insert)
    compiled = json.loads(statements.compile_plan().as_json_string())
    plan = number_nodes(compiled, NODE_IDS[pipeline])
    keep_for_a_while(plan)
    return json.dumps(plan, indent=1, ensure_ascii=True) + "\n"


def number_nodes(plan: Plan, ranges: Iterable[range]) -> Plan:
    """The plan with its nodes numbered in their order by what the ranges hold.

    Flink counts through all plans that a process compiles: a plan must not depend on which ones
    were compiled before it. Raises ValueError when the ranges have fewer ids than the plan nodes.
    """
    ids = list(chain(*ranges))
    if len(ids) < len(plan["nodes"]):
        raise ValueError(f"{len(plan['nodes'])} nodes and {len(ids)} ids: extend NODE_IDS")
    numbers = dict(zip((node["id"] for node in plan["nodes"]), ids, strict=False))
    return {
        **plan,
        "nodes": [{**node, "id": numbers[node["id"]]} for node in plan["nodes"]],
        "edges": [
            {**edge, "source": numbers[edge["source"]], "target": numbers[edge["target"]]}
            for edge in plan["edges"]
        ],
    }


def keep_for_a_while(plan: Plan) -> None:
    """Let the states of counts and seen ids end some time after their last change.

    Only those: users and items are kept indefinitely. Flink has an option for all states of a job,
    and hints for some operators, but none for the seen ids.
    """
    for node in plan["nodes"]:
        if node["type"].startswith(("stream-exec-deduplicate", "stream-exec-group-aggregate")):
            for state in node["state"]:
                state["ttl"] = f"{STATE_TTL_MS} ms"


def rehearse(tables: StreamTableEnvironment, plan: str) -> None:
    """Do with a plan all that comes before its submission; raises what the submission would raise.

    What is loaded and compiled for it stays: the submission itself is quicker then.
    """
    tables.load_plan(PlanReference.from_json_string(plan)).explain()


def execute(tables: StreamTableEnvironment, plan: str) -> Any:
    """Submit a plan; returns Flink's TableResult."""
    nodes = json.loads(plan)["nodes"]
    return execute_with_left_joins(
        tables, plan, sum(node["type"].startswith(LEFT_JOIN) for node in nodes)
    )
