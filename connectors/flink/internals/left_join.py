"""A join with the newest version that keeps events without one.

Flink's planner compiles a processing-time join with a temporal table function, but refuses LEFT for
it, although the operator behind it knows both: its private field ``isLeftOuterJoin`` is set between
the translation of a plan and its submission. (Flink 2.4 has LATERAL SNAPSHOT for that: FLIP-579.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyflink.java_gateway import get_gateway
from pyflink.table import PlanReference, StreamTableEnvironment
from pyflink.table.table_result import TableResult

from connectors.flink.internals.version import InternalsError, check_version

OPERATOR = "TemporalProcessTimeJoinOperator"
FIELD = "isLeftOuterJoin"


def create_temporal_function(
    tables: StreamTableEnvironment, name: str, view: str, time: str, key: str
) -> None:
    """Create a function of a time that returns the last row of each key of a view until then.

    PyFlink has none of this; ``time`` is a processing-time attribute.
    """
    column = getattr(get_gateway().jvm.org.apache.flink.table.api.Expressions, "$")
    table = tables.from_path(view)._j_table
    tables._j_tenv.createTemporarySystemFunction(
        name, table.createTemporalTableFunction(column(time), column(key))
    )


def execute_with_left_joins(tables: StreamTableEnvironment, plan: str, joins: int) -> TableResult:
    """Submit a compiled plan whose joins with temporal table functions are LEFT joins.

    Raises InternalsError, before anything is submitted, unless it has exactly so many of them and
    all could be changed: an inner join would drop events.
    """
    check_version()
    environment = tables._j_tenv
    loaded = environment.loadPlan(PlanReference.from_json_string(plan)._j_plan_reference)
    internal = _invoke(loaded, "unwrap")
    # The plan's nodes keep what they were translated to, so that is what execute() submits.
    transformations = environment.getPlanner().translatePlan(internal)
    changed = 0
    for operator in _operators(transformations):
        if operator.getClass().getSimpleName() == OPERATOR:
            _set_left(operator)
            changed += 1
    if changed != joins:
        raise InternalsError(
            f"{changed} joins with the newest version were found in the plan, {joins} expected:"
            " this version of Flink builds them differently"
        )
    return TableResult(loaded.execute())


def _operators(transformations: Any) -> Iterator[Any]:
    """The operators with two inputs of a job graph to be."""
    seen: set[int] = set()
    pending = list(transformations)
    while pending:
        transformation = pending.pop()
        if transformation.getId() in seen:
            continue
        seen.add(transformation.getId())
        pending.extend(transformation.getInputs())
        if transformation.getClass().getSimpleName() == "TwoInputTransformation":
            yield transformation.getOperatorFactory().getOperator()


def _set_left(operator: Any) -> None:
    try:
        field = operator.getClass().getDeclaredField(FIELD)
        field.setAccessible(True)
        field.setBoolean(operator, True)
    except Exception as error:  # py4j raises its own for whatever Java has thrown
        raise InternalsError(f"Flink's {OPERATOR} has no field {FIELD}: {error}") from error


def _invoke(instance: Any, name: str) -> Any:
    """Call a method without parameters of a class that is not public."""
    method = instance.getClass().getDeclaredMethod(name, None)
    method.setAccessible(True)
    return method.invoke(instance, None)
