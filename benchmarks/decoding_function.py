"""The job of benchmarks.decoding: a file of interactions, a decode function, no destination."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pyflink.table import FunctionContext, Row
from pyflink.table.udf import ScalarFunction, udf

from benchmarks.decoding import NONE, create_decoder
from connectors.flink import java
from connectors.flink.table_environment import create_tables, minicluster_configuration
from jobs.decode_functions import DECODED
from schemas.model import Role, load_contracts

WARM_UP_SHARE = 0.3
COLUMNS = (
    "`key` BYTES, `value` BYTES, topic STRING, `partition` INT, `offset` BIGINT,"
    " published_at BIGINT"
)


class DecodeEvent(ScalarFunction):  # type: ignore[misc]  # of an untyped library
    """Decodes like decode_interaction, and measures the CPU time of its thread."""

    def __init__(self, way: str, calls: int, report: Path) -> None:
        self._way = way
        self._marks = int(calls * WARM_UP_SHARE), calls
        self._report = report

    def open(self, function_context: FunctionContext) -> None:
        """Create the decoder."""
        self._decode = create_decoder(load_contracts(), Role.INTERACTION, self._way)
        self._row = Row(True, "key", "item", "payload")
        self._calls = 0
        self._started = 0.0

    def eval(
        self,
        key: bytes | None,
        value: bytes | None,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
    ) -> Row:
        """The decoded record."""
        self._calls += 1
        if self._calls in self._marks:
            self._mark()
        if self._way != NONE:
            origin = f"{topic}/{partition}/{offset}"
            self._row[:] = self._decode(key, value, origin, timestamp_ms)
        return self._row

    def _mark(self) -> None:
        first, last = self._marks
        if self._calls == first:
            self._started = time.thread_time()
        else:
            seconds = (time.thread_time() - self._started) / (last - first)
            self._report.write_text(str(seconds), encoding="ascii")


def run_job(file: Path, calls: int, way: str) -> float:
    """Run the job; returns the CPU seconds of the task's thread per call, without warm-up."""
    java.provide(os.environ)
    configuration = {**minicluster_configuration(), "parallelism.default": "1"}
    options = {"python.execution-mode": "thread", "pipeline.object-reuse": "true"}
    tables = create_tables(configuration, (), options)
    report = file.with_name("seconds")
    tables.execute_sql(
        f"CREATE TEMPORARY TABLE events ({COLUMNS}) WITH"
        f" ('connector' = 'filesystem', 'path' = '{file}', 'format' = 'csv')"
    )
    tables.execute_sql(
        f"CREATE TEMPORARY TABLE nowhere (r {DECODED}) WITH ('connector' = 'blackhole')"
    )
    function = udf(DecodeEvent(way, calls, report), result_type=DECODED)
    tables.create_temporary_function("decode_event", function)
    tables.execute_sql(
        "INSERT INTO nowhere SELECT decode_event("
        "`key`, `value`, topic, `partition`, `offset`, published_at) FROM events"
    ).wait()
    return float(report.read_text(encoding="ascii"))
