"""The analytics pipeline: Firehose, OpenSearch, trends (jobs/analytics.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import DataTypes, StreamTableEnvironment
from pyflink.table.udf import udf

from connectors.kafka import source_table, upsert_sink_table
from jobs.batch import PIECE
from jobs.delivery import RESULTS, ArchiveEvents, IndexDocuments
from jobs.settings import ApplicationSettings
from jobs.sql import read_steps
from jobs.trends import FACTS, EncodeTrend, TrendFactsFunction
from schemas.contracts import Contracts, Role

NAME = "analytics"


def register(
    tables: StreamTableEnvironment,
    contracts: Contracts,
    extra_contracts: tuple[Path, ...],
    settings: ApplicationSettings,
) -> None:
    """Create what the plan names: tables and functions."""
    analytics = settings.analytics
    assert analytics is not None
    for table, role, start in (
        ("analytics_archive", Role.ENRICHED, analytics.start),
        ("analytics_search", Role.ENRICHED, analytics.start),
        ("analytics_trends", Role.TREND, "earliest"),
    ):
        tables.execute_sql(
            source_table(
                table,
                [contracts.only(role).topic],
                settings.kafka,
                group_id=f"{settings.group(NAME)}-{table.removeprefix('analytics_')}",
                start=start,
                computed={"piece": PIECE},
            )
        )
    trends = contracts.only(Role.TREND)
    tables.execute_sql(
        upsert_sink_table("trends", trends.topic, settings.kafka, max_bytes=trends.max_bytes)
    )
    registry = settings.registry
    functions = {
        "archive_events": (ArchiveEvents(analytics, registry, extra_contracts), RESULTS),
        "index_events": (
            IndexDocuments(Role.ENRICHED, analytics, registry, extra_contracts),
            RESULTS,
        ),
        "index_trends": (IndexDocuments(Role.TREND, analytics, registry, extra_contracts), RESULTS),
        "trend_facts": (TrendFactsFunction(registry, extra_contracts), FACTS),
        "encode_trend": (EncodeTrend(registry, extra_contracts), DataTypes.BYTES()),
    }
    for name, (function, result) in functions.items():
        deterministic = function.is_deterministic()
        tables.create_temporary_function(
            name, udf(function, result_type=result, deterministic=deterministic)
        )


def inserts(tables: StreamTableEnvironment) -> tuple[str, ...]:
    """Create the views of the SQL and return its INSERT statements; needs :func:`register`."""
    steps = read_steps("analytics.sql")
    for statement in (*steps["events"], *steps["trends"]):
        tables.execute_sql(statement)
    return steps["out"]
