"""From a bootstrap output to a campaign, step by step.

No state is kept: each step finds or creates its resource and waits until it is ACTIVE. So a run
that was killed anywhere continues when it is started again, and a complete one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batch.imports.attempts import Attempts
from batch.imports.calls import Calls
from batch.imports.ensure import Ensure
from batch.imports.errors import ImportsError
from batch.imports.output import BootstrapOutput
from batch.imports.plan import DatasetSchemas, DatasetType, ImportSettings

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """All resources, by ARN; the stream needs the tracking id and the datasets."""

    dataset_group: str
    datasets: Mapping[DatasetType, str]
    tracking_id: str
    import_jobs: Mapping[DatasetType, str]
    solution: str
    solution_version: str
    campaign: str
    filters: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """The resources as JSON."""
        return {
            "dataset_group": self.dataset_group,
            "datasets": {dataset.folder: arn for dataset, arn in self.datasets.items()},
            "tracking_id": self.tracking_id,
            "import_jobs": {dataset.folder: arn for dataset, arn in self.import_jobs.items()},
            "solution": self.solution,
            "solution_version": self.solution_version,
            "campaign": self.campaign,
            "filters": dict(self.filters),
        }


def run_imports(
    calls: Calls,
    settings: ImportSettings,
    schemas: DatasetSchemas,
    output: BootstrapOutput,
    progress: Progress = lambda line: None,
) -> Imported:
    """Run all steps; returns when the campaign answers from what was imported.

    Raises ImportsError with the step, the service's reason, and what to do.
    """
    ensure = Ensure(calls, progress)
    attempts = Attempts(calls, progress)
    schema_arns = {
        dataset: ensure.schema(settings.schema_name(dataset, text), text)
        for dataset in DatasetType
        for text in (schemas.of(dataset),)
    }
    group = ensure.dataset_group(settings.name)
    datasets = {
        dataset: ensure.dataset(group, dataset, settings.dataset_name(dataset), schema)
        for dataset, schema in schema_arns.items()
    }
    tracking_id = ensure.event_tracker(group, settings.name)
    jobs = attempts.import_jobs(settings, output, datasets)
    if not jobs:
        raise ImportsError(f"{output.location} has no rows to import.")
    solution = ensure.solution(group, settings.name, settings.recipe_arn)
    version = attempts.solution_version(settings, solution, jobs.values())
    campaign = ensure.campaign(settings.name, solution, version)
    filters = {
        ending: ensure.filter(group, settings.filter_name(ending), expression)
        for ending, expression in settings.filters.items()
    }
    return Imported(group, datasets, tracking_id, jobs, solution, version, campaign, filters)
