"""The enrichment pipeline: topics in, decode, join, out (jobs/enrichment.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import StreamTableEnvironment

from jobs.decode_functions import DecodeDimension, DecodeInteraction
from jobs.environment import register_sink, register_sources
from jobs.functions import register_functions
from jobs.settings import ApplicationSettings
from schemas.model import Contracts, Role

NAME = "enrichment"


def register(
    tables: StreamTableEnvironment,
    contracts: Contracts,
    extra_contracts: tuple[Path, ...],
    settings: ApplicationSettings,
) -> None:
    """Create what the plan names: tables and functions."""
    register_sources(
        tables,
        contracts,
        settings,
        enrichment_users=(Role.USER, "earliest"),
        enrichment_items=(Role.ITEM, "earliest"),
        enrichment_interactions=(Role.INTERACTION, settings.enrichment.start),
    )
    register_sink(tables, contracts, settings, "interactions_enriched", Role.ENRICHED)
    register_functions(
        tables,
        DecodeDimension(Role.USER, settings, extra_contracts),
        DecodeDimension(Role.ITEM, settings, extra_contracts),
        DecodeInteraction(settings, extra_contracts),
    )
