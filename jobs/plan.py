"""Compiled plans: what a job runs, kept in ``jobs/plans/`` so that a change of it is a visible diff.

Operators keep their ids as long as the plan stays, so a savepoint restores under changed Python
code, settings and contracts. Frozen API: a changed plan is deliberate and in the changelog.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyflink.table import StreamTableEnvironment

PLANS = Path(__file__).parent / "plans"


def plan_file(pipelines: tuple[str, ...]) -> Path:
    """Where the plan of an application with these pipelines is kept."""
    return PLANS / ("_".join(pipelines) + ".json")


def compile_plan(tables: StreamTableEnvironment, inserts: tuple[str, ...]) -> str:
    """Compile INSERT statements to the text of a plan."""
    statements = tables.create_statement_set()
    for insert in inserts:
        statements.add_insert_sql(insert)
    plan = json.loads(statements.compile_plan().as_json_string())
    return json.dumps(plan, indent=1, ensure_ascii=True) + "\n"


def execute(tables: StreamTableEnvironment, plan: Path) -> Any:
    """Submit a plan; returns Flink's TableResult.

    By SQL, because ``CompiledPlan.execute`` fails in PyFlink 2.2.1.
    """
    return tables.execute_sql(f"EXECUTE PLAN '{plan}'")
