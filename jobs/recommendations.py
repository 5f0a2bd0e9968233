"""The recommendations pipeline: PutEvents, PutUsers, PutItems (jobs/recommendations.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import StreamTableEnvironment
from pyflink.table.udf import udf

from connectors.kafka.tables import sink_table, source_table
from jobs.decode_functions import VERSION, VersionOf
from jobs.delivery_functions import RESULTS, DeliverDataset, DeliverEvents
from jobs.settings import ApplicationSettings
from schemas.model import Contracts, Role

NAME = "recommendations"


def register(
    tables: StreamTableEnvironment,
    contracts: Contracts,
    extra_contracts: tuple[Path, ...],
    settings: ApplicationSettings,
) -> None:
    """Create what the plan names: tables and functions."""
    recommendations = settings.recommendations
    assert recommendations is not None
    for table, role, start in (
        ("recommendations_enriched", Role.ENRICHED, recommendations.start),
        ("recommendations_users", Role.USER, recommendations.datasets_start),
        ("recommendations_items", Role.ITEM, recommendations.datasets_start),
    ):
        tables.execute_sql(
            source_table(
                table,
                [contract.topic for contract in contracts.with_role(role)],
                settings.kafka,
                group_id=settings.group(NAME),
                start=start,
            )
        )
    deletions = contracts.only(Role.DELETION)
    tables.execute_sql(
        sink_table("deletions", deletions.topic, settings.kafka, max_bytes=deletions.max_bytes)
    )
    registry = settings.registry
    functions = {
        "deliver_events": DeliverEvents(Role.ENRICHED, recommendations, registry, extra_contracts),
        "deliver_users": DeliverDataset(Role.USER, recommendations, registry, extra_contracts),
        "deliver_items": DeliverDataset(Role.ITEM, recommendations, registry, extra_contracts),
    }
    for name, function in functions.items():
        tables.create_temporary_function(name, udf(function, result_type=RESULTS))
    for name, role in (("version_of_user", Role.USER), ("version_of_item", Role.ITEM)):
        versions = VersionOf(role, registry, extra_contracts)
        tables.create_temporary_function(name, udf(versions, result_type=VERSION))
