"""The enrichment pipeline: topics in, decode, join, out (jobs/enrichment.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import StreamTableEnvironment
from pyflink.table.udf import udf

from connectors.kafka.tables import sink_table, source_table
from jobs.decode_functions import DECODED, DecodeDimension, DecodeInteraction
from jobs.settings import ApplicationSettings
from schemas.model import Contracts, Role

NAME = "enrichment"


def register(
    tables: StreamTableEnvironment,
    contracts: Contracts,
    extra_contracts: tuple[Path, ...],
    settings: ApplicationSettings,
) -> None:
    """Create what the plan names: the source tables and the functions."""
    group = settings.group(NAME)
    for table, role, start in (
        ("enrichment_users", Role.USER, "earliest"),
        ("enrichment_items", Role.ITEM, "earliest"),
        ("enrichment_interactions", Role.INTERACTION, settings.enrichment.start),
    ):
        tables.execute_sql(
            source_table(
                table,
                [contract.topic for contract in contracts.with_role(role)],
                settings.kafka,
                group_id=group,
                start=start,
            )
        )
    enriched = contracts.only(Role.ENRICHED)
    tables.execute_sql(
        sink_table(
            "interactions_enriched", enriched.topic, settings.kafka, max_bytes=enriched.max_bytes
        )
    )
    functions = {
        "decode_user": DecodeDimension(Role.USER, settings, extra_contracts),
        "decode_item": DecodeDimension(Role.ITEM, settings, extra_contracts),
        "decode_interaction": DecodeInteraction(settings, extra_contracts),
    }
    for name, function in functions.items():
        tables.create_temporary_function(name, udf(function, result_type=DECODED))
