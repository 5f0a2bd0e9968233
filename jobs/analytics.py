"""The analytics pipeline: Firehose, OpenSearch, trends (jobs/analytics.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import StreamTableEnvironment

from connectors.kafka.tables import upsert_sink_table
from jobs.decode_functions import EncodeTrend, TrendFactsFunction
from jobs.delivery_functions import Deliver, archive_target, documents_target
from jobs.environment import register_sources
from jobs.functions import register_functions
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
    analytics, registry = settings.analytics, settings.registry
    assert analytics is not None
    register_sources(
        tables,
        contracts,
        settings,
        analytics_archive=(Role.ENRICHED, analytics.start),
        analytics_search=(Role.ENRICHED, analytics.start),
        analytics_trends=(Role.TREND, "earliest"),
    )
    trends = contracts.only(Role.TREND)
    tables.execute_sql(
        upsert_sink_table("trends", trends.topic, settings.kafka, max_bytes=trends.max_bytes)
    )
    register_functions(
        tables,
        Deliver(archive_target(analytics), registry, extra_contracts),
        Deliver(documents_target(Role.ENRICHED, analytics), registry, extra_contracts),
        Deliver(documents_target(Role.TREND, analytics), registry, extra_contracts),
        TrendFactsFunction(registry, extra_contracts),
        EncodeTrend(registry, extra_contracts),
    )
