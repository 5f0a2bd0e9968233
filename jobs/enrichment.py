"""The enrichment pipeline: topics in, decode, join, out (jobs/enrichment.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import StreamTableEnvironment
from pyflink.table.udf import udf

from connectors.kafka import Alignment, sink_table, source_table
from jobs.functions import DECODED, DecodeDimension, DecodeInteraction
from jobs.settings import ApplicationSettings
from jobs.sql import read_steps
from schemas.contracts import Contracts, Role

LEAD_SECONDS = 2
"""How far an event may be read ahead of the users and items that are still to be read.

More than a source needs to be found idle, so that one late user does not stop the events; less
than the 5 s after which a published user or item must be attached.
"""

NAME = "enrichment"


def register(
    tables: StreamTableEnvironment,
    contracts: Contracts,
    extra_contracts: tuple[Path, ...],
    settings: ApplicationSettings,
) -> None:
    """Create what the plan names: the source tables and the functions."""
    group = f"{settings.group_id}-{NAME}"
    dimensions = Alignment(group, lead_s=LEAD_SECONDS)
    interactions = Alignment(group)
    for table, role, start, alignment in (
        ("enrichment_users", Role.USER, "earliest", dimensions),
        ("enrichment_items", Role.ITEM, "earliest", dimensions),
        ("enrichment_interactions", Role.INTERACTION, settings.enrichment.start, interactions),
    ):
        tables.execute_sql(
            source_table(
                table,
                [contract.topic for contract in contracts.with_role(role)],
                settings.kafka,
                group_id=group,
                start=start,
                alignment=alignment,
                bounded=settings.enrichment.bounded,
            )
        )
    enriched = contracts.only(Role.ENRICHED)
    tables.execute_sql(
        sink_table(
            "interactions_enriched", enriched.topic, settings.kafka, max_bytes=enriched.max_bytes
        )
    )
    functions = {
        "decode_user": DecodeDimension(Role.USER, settings.registry, extra_contracts),
        "decode_item": DecodeDimension(Role.ITEM, settings.registry, extra_contracts),
        "decode_interaction": DecodeInteraction(
            settings.registry, extra_contracts, settings.enrichment.hold_ms
        ),
    }
    for name, function in functions.items():
        tables.create_temporary_function(name, udf(function, result_type=DECODED))


def inserts(tables: StreamTableEnvironment) -> tuple[str, ...]:
    """Create the views of the SQL and return its INSERT statements; needs :func:`register`."""
    steps = read_steps("enrichment.sql")
    for statement in (*steps["decode"], *steps["join"]):
        tables.execute_sql(statement)
    return steps["out"]
