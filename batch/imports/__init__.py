"""From a bootstrap output to a campaign: Personalize's resources and imports, idempotently.

run          all steps in their order
plan         names, schemas, attempts (pure)
output       the bootstrap output that is imported
ensure       resources of a fixed name
attempts     import jobs and trainings, once for each content
calls        repeated calls, and waits
states       waits for a status
"""

from __future__ import annotations

from batch.imports.calls import LOCAL_PACE, Calls, Pace
from batch.imports.errors import ImportsError, ServiceRefused
from batch.imports.output import BootstrapOutput, read_output
from batch.imports.plan import DatasetSchemas, DatasetType, ImportSettings, Mode
from batch.imports.run import Imported, run_imports

__all__ = [
    "LOCAL_PACE",
    "BootstrapOutput",
    "Calls",
    "DatasetSchemas",
    "DatasetType",
    "ImportSettings",
    "Imported",
    "ImportsError",
    "Mode",
    "Pace",
    "ServiceRefused",
    "read_output",
    "run_imports",
]
