"""Compiled plans: what a job runs, kept in ``jobs/plans/`` so that a change is a visible diff.

Operators keep their ids as long as the plan stays, so a savepoint restores under changed Python
code, settings and contracts. Frozen API: a changed plan is deliberate and in the changelog.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyflink.table import PlanReference, StreamTableEnvironment

from jobs.sql import read_steps
from jobs.trends import KEEP_MS

PLANS = Path(__file__).parents[1] / "plans"


def plan_file(pipelines: tuple[str, ...]) -> Path:
    """Where the plan of an application with these pipelines is kept."""
    return PLANS / ("_".join(pipelines) + ".json")


def inserts(tables: StreamTableEnvironment, pipeline: str) -> tuple[str, ...]:
    """Create the views of a pipeline's SQL and return its INSERT statements, its step ``out``.

    What the SQL names has to be registered.
    """
    steps = read_steps(f"{pipeline}.sql")
    out = steps.pop("out")
    for statements in steps.values():
        for statement in statements:
            tables.execute_sql(statement)
    return out


def compile_plan(tables: StreamTableEnvironment, inserts: tuple[str, ...]) -> str:
    """Compile INSERT statements to the text of a plan."""
    statements = tables.create_statement_set()
    for insert in inserts:
        statements.add_insert_sql(insert)
    plan = numbered_from_one(json.loads(statements.compile_plan().as_json_string()))
    keep_for_a_while(plan)
    return json.dumps(plan, indent=1, ensure_ascii=True) + "\n"


def numbered_from_one(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan with its nodes numbered 1, 2, ... in their order.

    Flink counts through all plans that a process compiles, and a node's number is part of its
    operator's id: a plan must not depend on which ones were compiled before it.
    """
    numbers = {node["id"]: number for number, node in enumerate(plan["nodes"], start=1)}
    return {
        **plan,
        "nodes": [{**node, "id": numbers[node["id"]]} for node in plan["nodes"]],
        "edges": [
            {**edge, "source": numbers[edge["source"]], "target": numbers[edge["target"]]}
            for edge in plan["edges"]
        ],
    }


def keep_for_a_while(plan: dict[str, Any]) -> None:
    """Let the states of counts and seen ids end some time after their last change.

    Only those: users and items are kept for ever. Flink has an option for all states of a job, and
    hints for some operators, but none for the seen ids.
    """
    for node in plan["nodes"]:
        if node["type"].startswith(("stream-exec-deduplicate", "stream-exec-group-aggregate")):
            for state in node["state"]:
                state["ttl"] = f"{KEEP_MS} ms"


def rehearse(tables: StreamTableEnvironment, plan: Path) -> None:
    """Do with a plan all that comes before its submission; raises what the submission would raise.

    What is loaded and compiled for it stays: the submission itself is quicker then.
    """
    tables.load_plan(PlanReference.from_file(str(plan))).explain()


def execute(tables: StreamTableEnvironment, plan: Path) -> Any:
    """Submit a plan; returns Flink's TableResult.

    By SQL, because ``CompiledPlan.execute`` fails in PyFlink 2.2.1.
    """
    return tables.execute_sql(f"EXECUTE PLAN '{plan}'")
