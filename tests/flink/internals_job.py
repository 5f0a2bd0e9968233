"""The job of test_internals: uses every internal of Flink once, and writes down what it saw.

    python -m tests.flink.internals_job REQUEST        a JSON object, see :class:`Request`

Thread mode in the minicluster, one subtask. Each record of the topic is a command to the function.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from pyflink.java_gateway import get_gateway
from pyflink.table import DataTypes, FunctionContext, StreamTableEnvironment
from pyflink.table.udf import ScalarFunction, udf

from batch.bootstrap.job import s3_configuration
from connectors.flink import java
from connectors.flink.internals.file_systems import load_file_systems
from connectors.flink.internals.gauges import Gauges
from connectors.flink.internals.java_task import current_task, is_task_cancelled
from connectors.flink.internals.left_join import (
    create_temporal_function,
    execute_with_left_joins,
)
from connectors.flink.internals.restored import restored_positions
from connectors.flink.internals.submission import job_id_configuration
from connectors.flink.internals.version import InternalsError
from connectors.flink.table_environment import create_tables, minicluster_configuration
from connectors.kafka.tables import KafkaSettings, source_table
from jobs.freshness.watch import UNALIGNED_CHECKPOINTS

COUNT, FAIL, BLOCK = b"count", b"fail", b"block"
"""Commands: be counted, raise the first time, block until the task is cancelled."""

CANCEL_SECONDS = 60.0


class Request(NamedTuple):
    """What the job is started with."""

    folder: str
    bootstrap_servers: str
    topic: str
    rest_port: int
    job: str
    jars: list[str]


def facts(folder: Path) -> list[dict[str, Any]]:
    """Return what the job has written down so far."""
    file = folder / "facts"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def note(folder: Path, **fact: object) -> None:
    """Write a fact down."""
    with (folder / "facts").open("a") as file:
        file.write(json.dumps(fact) + "\n")


class Probe(ScalarFunction):  # type: ignore[misc]  # of an untyped library
    """Notes at each opening what it sees of its task, and obeys the records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, function_context: FunctionContext) -> None:
        self._records = 0
        self._gauges = Gauges("probe", lambda: {"records": self._records}, function_context)
        task, positions = current_task(), restored_positions()
        note(
            self._folder,
            task=None if task is None else task.getClass().getName(),
            restored=None if positions is None else [[*p, o] for p, o in positions.items()],
        )

    def close(self) -> None:
        self._gauges.close()

    def eval(self, command: bytes) -> bool:
        self._records += 1
        if command == FAIL and not (self._folder / "failed").exists():
            (self._folder / "failed").touch()
            raise RuntimeError("as the test has asked for")
        if command == BLOCK:
            (self._folder / "blocked").touch()
            deadline, pause = time.monotonic() + CANCEL_SECONDS, threading.Event()
            while not is_task_cancelled() and time.monotonic() < deadline:
                pause.wait(0.05)
            note(self._folder, cancelled=is_task_cancelled())
        return True


def run(request: Request) -> None:
    """Submit the job and wait for its end."""
    folder = Path(request.folder)
    java.provide(os.environ)
    configuration = {
        **minicluster_configuration(),
        "parallelism.default": "1",
        "rest.bind-port": str(request.rest_port),
        "execution.checkpointing.interval": "200 ms",
        "execution.checkpointing.dir": (folder / "checkpoints").as_uri(),
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.delay": "0 s",
        **s3_configuration("http://127.0.0.1:1"),
    }
    load_file_systems(configuration)
    jvm = get_gateway().jvm
    s3 = jvm.org.apache.flink.core.fs.FileSystem.getUnguardedFileSystem(jvm.java.net.URI("s3://b/"))
    note(folder, s3=s3.getUri().getScheme())
    tables = create_tables(
        configuration,
        [Path(jar) for jar in request.jars],
        {
            "python.execution-mode": "thread",
            **UNALIGNED_CHECKPOINTS,
            **job_id_configuration(request.job),
        },
    )
    kafka = KafkaSettings(request.bootstrap_servers)
    tables.execute_sql(
        source_table("commands", [request.topic], kafka, group_id="probe", start="earliest")
    )
    tables.execute_sql("CREATE TEMPORARY TABLE done (ok BOOLEAN) WITH ('connector' = 'blackhole')")
    tables.create_temporary_function("probe", udf(Probe(folder), result_type=DataTypes.BOOLEAN()))
    insert = "INSERT INTO done SELECT probe(`value`) FROM commands"
    try:
        tables.compile_plan_sql(insert).execute()
    except Exception as error:  # noqa: BLE001 - whatever it is, the test tells
        note(folder, plan=type(error).__name__)
    note(folder, joins=refused_joins(tables))
    tables.execute_sql(insert).wait()


def refused_joins(tables: StreamTableEnvironment) -> str:
    """Ask for two LEFT joins where the plan has one; returns the error."""
    tables.execute_sql(
        "CREATE TEMPORARY VIEW versions AS SELECT `value`, PROCTIME() AS arrived FROM commands"
    )
    create_temporal_function(tables, "version_at", "versions", "arrived", "value")
    plan = tables.compile_plan_sql(
        "INSERT INTO done SELECT v.`value` IS NULL FROM versions AS c,"
        " LATERAL TABLE(version_at(c.arrived)) AS v WHERE v.`value` = c.`value`"
    )
    try:
        execute_with_left_joins(tables, plan.as_json_string(), joins=2)
    except InternalsError as error:
        return str(error)
    return "no error"


if __name__ == "__main__":
    run(Request(**json.loads(sys.argv[1])))
