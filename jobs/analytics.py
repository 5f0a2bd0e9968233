"""The analytics pipeline: Firehose, OpenSearch, trends (jobs/analytics.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import DataTypes, StreamTableEnvironment
from pyflink.table.udf import udf

from connectors.kafka.tables import source_table, upsert_sink_table
from jobs.decode_functions import FACTS, EncodeTrend, TrendFactsFunction
from jobs.delivery_functions import RESULTS, ArchiveEvents, IndexDocuments
from jobs.settings import ApplicationSettings
from schemas.model import Contracts, Role

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
            )
        )
    trends = contracts.only(Role.TREND)
    tables.execute_sql(
        upsert_sink_table("trends", trends.topic, settings.kafka, max_bytes=trends.max_bytes)
    )
    registry = settings.registry
    archive = ArchiveEvents(Role.ENRICHED, analytics, registry, extra_contracts)
    events = IndexDocuments(Role.ENRICHED, analytics, registry, extra_contracts)
    documents = IndexDocuments(Role.TREND, analytics, registry, extra_contracts)
    functions = {
        "archive_events": udf(archive, result_type=RESULTS),
        "index_events": udf(events, result_type=RESULTS),
        "index_trends": udf(documents, result_type=RESULTS),
        "trend_facts": udf(TrendFactsFunction(registry, extra_contracts), result_type=FACTS),
        "encode_trend": udf(EncodeTrend(registry, extra_contracts), result_type=DataTypes.BYTES()),
    }
    for name, function in functions.items():
        tables.create_temporary_function(name, function)
