"""Steps that are done once for a content: import jobs, and the training after them.

Neither can be deleted, and neither has the content in it, so the names carry a hash of it. One that
has failed stays, and another attempt gets the next number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from batch.imports.calls import EXISTS, IN_USE, LIMIT, Calls
from batch.imports.errors import ServiceRefused
from batch.imports.output import BootstrapOutput
from batch.imports.plan import Attempt, DatasetType, ImportSettings, Mode, next_name, usable
from batch.imports.states import Waiting

_PASSES: Final = frozenset((IN_USE, LIMIT))
"""Five imports may be under way in a region: others of the account end."""

ADVICE: Final = "Mend what it says, and run the same command again: it begins another attempt."


class Attempts:
    """Finds what was begun, begins what was not, and waits for it."""

    def __init__(self, calls: Calls, progress: Callable[[str], None]) -> None:
        self._calls = calls
        self._progress = progress
        self._waiting = Waiting(calls, progress)

    def import_jobs(
        self,
        settings: ImportSettings,
        output: BootstrapOutput,
        datasets: Mapping[DatasetType, str],
    ) -> dict[DatasetType, str]:
        """The jobs, side by side; datasets without rows are left as they are. ACTIVE on return."""
        jobs: dict[DatasetType, str] = {}
        for dataset, arn in datasets.items():
            if dataset not in output.contents or not output.rows(dataset):
                self._progress(f"no rows for {dataset.folder}: that dataset stays as it is")
                continue
            jobs[dataset] = self._import_job(settings, output, dataset, arn)
        for dataset, arn in jobs.items():
            self._waiting.until_active(
                lambda arn=arn: self._described_job(arn),  # type: ignore[misc]
                f"the import of {output.rows(dataset)} {dataset.folder}",
                ADVICE,
            )
        return jobs

    def solution_version(self, settings: ImportSettings, solution: str, jobs: Iterable[str]) -> str:
        """The version that was trained after these import jobs. ACTIVE on return."""
        prefix = settings.version_prefix(jobs)

        def begun() -> list[Attempt]:
            entries = self._calls.pages(
                "list_solution_versions", "solutionVersions", solutionArn=solution
            )
            return [self._described_version(entry["solutionVersionArn"]) for entry in entries]

        arn = self._go_on_or_begin(
            begun,
            prefix,
            newest_only=False,
            what="the training",
            begin=lambda name: self._calls.call(
                "create_solution_version",
                again=_PASSES,
                name=name,
                solutionArn=solution,
                trainingMode="FULL",
            )["solutionVersionArn"],
        )
        self._waiting.until_active(
            lambda: self._calls.call("describe_solution_version", solutionVersionArn=arn)[
                "solutionVersion"
            ],
            "the training",
            ADVICE,
        )
        return arn

    def _import_job(
        self, settings: ImportSettings, output: BootstrapOutput, dataset: DatasetType, arn: str
    ) -> str:
        def begun() -> list[Attempt]:
            return [
                _attempt(entry["jobName"], entry["datasetImportJobArn"], entry)
                for entry in self._calls.pages(
                    "list_dataset_import_jobs", "datasetImportJobs", datasetArn=arn
                )
            ]

        return self._go_on_or_begin(
            begun,
            settings.job_prefix(dataset, output.contents[dataset]),
            newest_only=settings.mode is Mode.FULL,
            what=f"the import of {dataset.folder}",
            begin=lambda name: self._calls.call(
                "create_dataset_import_job",
                again=_PASSES,
                jobName=name,
                datasetArn=arn,
                dataSource={"dataLocation": output.folder(dataset)},
                roleArn=settings.role_arn,
                importMode=settings.mode.value,
            )["datasetImportJobArn"],
        )

    def _go_on_or_begin(
        self,
        begun: Callable[[], list[Attempt]],
        prefix: str,
        *,
        newest_only: bool,
        what: str,
        begin: Callable[[str], str],
    ) -> str:
        attempts = begun()
        found = usable(attempts, prefix, newest_only=newest_only)
        if found is None:
            name = next_name(attempts, prefix)
            try:
                arn = begin(name)
            except ServiceRefused as refused:
                if refused.code != EXISTS:
                    raise
                # Begun by a call whose answer was lost.
                found = next((one for one in begun() if one.name == name), None)
                if found is None:
                    raise
            else:
                self._progress(f"{what}: begun as {name}")
                return arn
        return found.arn

    def _described_job(self, arn: str) -> dict[str, Any]:
        found: dict[str, Any] = self._calls.call(
            "describe_dataset_import_job", datasetImportJobArn=arn
        )["datasetImportJob"]
        return found

    def _described_version(self, arn: str) -> Attempt:
        found = self._calls.call("describe_solution_version", solutionVersionArn=arn)
        version = found["solutionVersion"]
        return _attempt(version.get("name", ""), arn, version)


def _attempt(name: str, arn: str, entry: Mapping[str, Any]) -> Attempt:
    created = entry["creationDateTime"]
    at = created.timestamp() if isinstance(created, datetime) else float(created)
    return Attempt(name, arn, entry["status"], at)
