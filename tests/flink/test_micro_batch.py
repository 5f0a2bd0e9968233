"""A record keeps its bytes on its way through a micro-batch: SQL, Python, SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment

from jobs.micro_batch.left_over import LeftOver, Sink
from jobs.micro_batch.piece import PIECE, split
from jobs.sql import read_steps
from schemas.dead_letter import SourceRecord

RECORDS = st.lists(
    st.builds(
        SourceRecord,
        topic=st.sampled_from(["songs", "interactions-enriched"]),
        partition=st.integers(0, 2**31 - 1),
        offset=st.integers(0, 2**63 - 1),
        timestamp_ms=st.integers(0, 253_402_300_799_999),
        key=st.none() | st.binary(max_size=20),
        payload=st.none() | st.binary(max_size=60),
    ),
    min_size=30,
    max_size=100,
)

COLUMNS = DataTypes.ROW(
    [
        DataTypes.FIELD("topic", DataTypes.STRING()),
        DataTypes.FIELD("partition", DataTypes.INT()),
        DataTypes.FIELD("offset", DataTypes.BIGINT()),
        DataTypes.FIELD("timestamp_ms", DataTypes.BIGINT()),
        DataTypes.FIELD("key", DataTypes.BYTES()),
        DataTypes.FIELD("value", DataTypes.BYTES()),
    ]
)

TEXTS = DataTypes.ROW([DataTypes.FIELD("left_over", DataTypes.STRING())])


@pytest.fixture(scope="module")
def tables(java_home: Path) -> TableEnvironment:
    """Flink's planner and its minicluster, in batch mode; one task keeps the order."""
    tables = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
    tables.get_config().set("parallelism.default", "1")
    tables.get_config().set("table.local-time-zone", "UTC")
    return tables


def select(tables: TableEnvironment, sql: str) -> list[Any]:
    with tables.execute_sql(sql).collect() as rows:
        return list(rows)


def writable(value: bytes | None) -> bytearray | None:
    """As PyFlink takes bytes."""
    return None if value is None else bytearray(value)


def batch_of(tables: TableEnvironment, records: Sequence[SourceRecord]) -> str:
    rows = [
        (r.topic, r.partition, r.offset, r.timestamp_ms, writable(r.key), writable(r.payload))
        for r in records
    ]
    sql = f"""SELECT LISTAGG(piece, '') FROM (
        SELECT {PIECE} AS piece
        FROM (SELECT *, TO_TIMESTAMP_LTZ(timestamp_ms, 3) AS `timestamp` FROM records))"""
    tables.create_temporary_view("records", tables.from_elements(rows, COLUMNS))
    ((batch,),) = select(tables, sql)
    tables.drop_temporary_view("records")
    return str(batch)


def cut(tables: TableEnvironment, texts: Sequence[str]) -> dict[str, list[Any]]:
    """The keys and values that the recommendations' SQL writes, by table."""
    rows = tables.from_elements([(text,) for text in texts], TEXTS)
    tables.create_temporary_view("recommendations_results", rows)
    records = {}
    for insert in read_steps("recommendations.sql")["out"]:
        _, table, query = re.split(r"INSERT INTO (\w+)", insert)
        records[table] = [tuple(row) for row in select(tables, query)]
    tables.drop_temporary_view("recommendations_results")
    return records


# Each example takes seconds: three Flink jobs.
@settings(max_examples=2, phases=[Phase.explicit, Phase.generate], deadline=None)
@given(records=RECORDS)
@example(
    records=[
        SourceRecord("songs", 3, 0, 0, b"", b""),
        SourceRecord("songs", 3, 7, 999, b"1 2 3 ", b" 4 5 6 7 "),
        SourceRecord("songs", 3, 7, 1_000, None, bytes(range(256))),
        SourceRecord("songs", 3, 8, 1_001, bytes(range(256)), None),
    ]
)
def test_records_keep_their_bytes(tables: TableEnvironment, records: list[SourceRecord]) -> None:
    """Any bytes, digits and blanks among them; a missing key differs from an empty one."""
    assert list(split(batch_of(tables, records))) == records
    left_over = [LeftOver(sink, r.key, r.payload or b"") for r in records for sink in Sink]
    assert cut(tables, [record.render() for record in left_over]) == {
        sink.name.lower(): [(r.key, r.value) for r in left_over if r.sink is sink] for sink in Sink
    }
