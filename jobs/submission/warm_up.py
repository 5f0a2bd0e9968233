"""A small job that makes TaskManagers ready for the real one: run before a held submission goes on.

A fresh TaskManager spends seconds of its first job on loading: the Python interpreter with pyflink
and this package's modules (thread mode), RocksDB, the classes of Flink's table runtime. While a
former version runs on other TaskManagers that costs nobody anything; after it was stopped it would
be part of the pause. Touches no topic and no service.
"""

from __future__ import annotations

import importlib
from typing import Any

from pyflink.table import DataTypes, StreamTableEnvironment
from pyflink.table.udf import ScalarFunction, udf

MODULES = ("jobs.decode_functions", "jobs.delivery_functions", "connectors.kafka.librdkafka")
"""Whose import takes long."""

ROWS = 64

STATEMENTS = (
    (
        "CREATE TEMPORARY TABLE warm_rows (id INT, arrived AS PROCTIME()) WITH"
        f" ('connector' = 'datagen', 'number-of-rows' = '{ROWS}', 'fields.id.min' = '1',"
        " 'fields.id.max' = '9')"
    ),
    "CREATE TEMPORARY TABLE warm_results (id INT, greatest INT) WITH ('connector' = 'blackhole')",
)

INSERT = (
    "INSERT INTO warm_results SELECT id, MAX(loaded) OVER (PARTITION BY id ORDER BY arrived"
    " ROWS UNBOUNDED PRECEDING) FROM (SELECT id, warm(id) AS loaded, arrived FROM warm_rows)"
)


class Warm(ScalarFunction):  # type: ignore[misc]  # of an untyped library
    """Loads what the real functions will need."""

    def open(self, function_context: Any) -> None:
        for module in MODULES:
            importlib.import_module(module)

    def eval(self, number: int) -> int:
        return number


def warm_up(tables: StreamTableEnvironment) -> None:
    """Run the small job and wait for its end."""
    for statement in STATEMENTS:
        tables.execute_sql(statement)
    tables.create_temporary_function("warm", udf(Warm(), result_type=DataTypes.INT()))
    tables.execute_sql(INSERT).wait()
