"""The recommendations pipeline: PutEvents, PutUsers, PutItems (jobs/recommendations.sql)."""

from __future__ import annotations

from pathlib import Path

from pyflink.table import StreamTableEnvironment

from jobs.decode_functions import VersionOf
from jobs.delivery_functions import Deliver, dataset_target, events_target
from jobs.environment import register_sink, register_sources
from jobs.functions import register_functions
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
    recommendations, registry = settings.recommendations, settings.registry
    assert recommendations is not None
    register_sources(
        tables,
        contracts,
        settings,
        recommendations_enriched=(Role.ENRICHED, recommendations.start),
        recommendations_users=(Role.USER, recommendations.datasets_start),
        recommendations_items=(Role.ITEM, recommendations.datasets_start),
    )
    register_sink(tables, contracts, settings, "deletions", Role.DELETION)
    register_functions(
        tables,
        Deliver(events_target(recommendations), registry, extra_contracts),
        Deliver(dataset_target(Role.USER, recommendations), registry, extra_contracts),
        Deliver(dataset_target(Role.ITEM, recommendations), registry, extra_contracts),
        VersionOf(Role.USER, recommendations, registry, extra_contracts),
        VersionOf(Role.ITEM, recommendations, registry, extra_contracts),
    )
