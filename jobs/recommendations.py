"""The recommendations pipeline: interactions-enriched -> PutEvents (jobs/recommendations.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import StreamTableEnvironment
from pyflink.table.udf import udf

from connectors.kafka import source_table
from jobs.delivery import LETTERS, DeliverEvents
from jobs.settings import ApplicationSettings
from jobs.sql import read_steps
from schemas.contracts import Contracts, Role

NAME = "recommendations"


def register(
    tables: StreamTableEnvironment,
    contracts: Contracts,
    extra_contracts: tuple[Path, ...],
    settings: ApplicationSettings,
) -> None:
    """Create what the plan names: the source table and the function."""
    recommendations = settings.recommendations
    assert recommendations is not None
    tables.execute_sql(
        source_table(
            "recommendations_enriched",
            [contracts.only(Role.ENRICHED).topic],
            settings.kafka,
            group_id=settings.group(NAME),
            start=recommendations.start,
        )
    )
    function = DeliverEvents(recommendations, settings.registry, extra_contracts)
    tables.create_temporary_function("deliver_events", udf(function, result_type=LETTERS))


def inserts(tables: StreamTableEnvironment) -> tuple[str, ...]:
    """Create the views of the SQL and return its INSERT statements; needs :func:`register`."""
    steps = read_steps("recommendations.sql")
    for statement in steps["batch"]:
        tables.execute_sql(statement)
    return steps["out"]
