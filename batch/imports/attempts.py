"""Steps that run once for each content: import jobs, the training after them, data deletion jobs.

Neither can be deleted or shows its content, so their names have a hash of it. A failed one remains,
and the next attempt has the next number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from batch.imports.calls import EXISTS, IN_USE, LIMIT, Calls
from batch.imports.errors import ServiceRefused
from batch.imports.output import BootstrapOutput
from batch.imports.plan import Attempt, DatasetType, ImportSettings, Mode, find_usable, next_name
from batch.imports.states import Waiting

_UNFINISHED: Final = ("CREATE PENDING", "CREATE IN_PROGRESS")

_TRANSIENT: Final = frozenset((IN_USE, LIMIT))
"""Transient: five imports may run in a region, and those of others end."""

ADVICE: Final = "Repair the cause, and run the same command again: it starts another attempt."


class Attempts:
    """Finds or starts jobs and trainings, and waits for them."""

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
        """The jobs, which run concurrently; datasets without rows keep theirs. ACTIVE on return."""
        jobs: dict[DatasetType, str] = {}
        for dataset, arn in datasets.items():
            if dataset not in output.contents or not output.rows(dataset):
                self._progress(f"no rows for {dataset.folder}: that dataset is not changed")
                continue
            jobs[dataset] = self._import_job(settings, output, dataset, arn)
        for dataset, arn in jobs.items():
            self._waiting.until_active(
                lambda arn=arn: self._describe_job(arn),  # type: ignore[misc]
                f"the import of {output.rows(dataset)} {dataset.folder}",
                ADVICE,
            )
        return jobs

    def solution_version(self, settings: ImportSettings, solution: str, jobs: Iterable[str]) -> str:
        """The version that was trained after these import jobs. ACTIVE on return."""
        prefix = settings.version_prefix(jobs)

        def list_attempts() -> list[Attempt]:
            entries = self._calls.pages(
                "list_solution_versions", "solutionVersions", solutionArn=solution
            )
            return [self._describe_version(entry["solutionVersionArn"]) for entry in entries]

        arn = self._find_or_start(
            list_attempts,
            prefix,
            newest_only=False,
            what="the training",
            start=lambda name: self._calls.call(
                "create_solution_version",
                again=_TRANSIENT,
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

    def data_deletion(
        self, settings: ImportSettings, group: str, batch: str, location: str
    ) -> dict[str, Any]:
        """The job that deletes the users of a batch from a dataset group; COMPLETED on return."""

        def list_attempts() -> list[Attempt]:
            return [
                _attempt(entry["jobName"], entry["dataDeletionJobArn"], entry)
                for entry in self._calls.pages(
                    "list_data_deletion_jobs", "dataDeletionJobs", datasetGroupArn=group
                )
            ]

        def describe() -> dict[str, Any]:
            answer = self._calls.call("describe_data_deletion_job", dataDeletionJobArn=arn)
            return dict(answer["dataDeletionJob"])

        arn = self._find_or_start(
            list_attempts,
            settings.deletion_prefix(batch),
            newest_only=False,
            what="the data deletion",
            start=lambda name: self._calls.call(
                "create_data_deletion_job",
                again=_TRANSIENT,
                jobName=name,
                datasetGroupArn=group,
                dataSource={"dataLocation": location},
                roleArn=settings.role_arn,
            )["dataDeletionJobArn"],
        )
        self._waiting.until_active(describe, "the data deletion", ADVICE)
        return describe()

    def wait_idle(self, group: str) -> None:
        """Return when no import into the datasets of a group and no training is in progress.

        The service does not guarantee that a data deletion beside one reaches the models.
        """

        def is_idle() -> bool:
            jobs = [
                job["status"]
                for dataset in self._calls.pages("list_datasets", "datasets", datasetGroupArn=group)
                for job in self._calls.pages(
                    "list_dataset_import_jobs",
                    "datasetImportJobs",
                    datasetArn=dataset["datasetArn"],
                )
            ]
            trainings = [
                version["status"]
                for solution in self._calls.pages(
                    "list_solutions", "solutions", datasetGroupArn=group
                )
                for version in self._calls.pages(
                    "list_solution_versions",
                    "solutionVersions",
                    solutionArn=solution["solutionArn"],
                )
            ]
            running = sum(status in _UNFINISHED for status in (*jobs, *trainings))
            if running:
                self._progress(f"waiting for {running} imports and trainings")
            return not running

        self._calls.wait(is_idle, f"{group}: an import or a training")

    def _import_job(
        self, settings: ImportSettings, output: BootstrapOutput, dataset: DatasetType, arn: str
    ) -> str:
        def list_attempts() -> list[Attempt]:
            return [
                _attempt(entry["jobName"], entry["datasetImportJobArn"], entry)
                for entry in self._calls.pages(
                    "list_dataset_import_jobs", "datasetImportJobs", datasetArn=arn
                )
            ]

        return self._find_or_start(
            list_attempts,
            settings.job_prefix(dataset, output.contents[dataset]),
            newest_only=settings.mode is Mode.FULL,
            what=f"the import of {dataset.folder}",
            start=lambda name: self._calls.call(
                "create_dataset_import_job",
                again=_TRANSIENT,
                jobName=name,
                datasetArn=arn,
                dataSource={"dataLocation": output.folder(dataset)},
                roleArn=settings.role_arn,
                importMode=settings.mode.value,
            )["datasetImportJobArn"],
        )

    def _find_or_start(
        self,
        list_attempts: Callable[[], list[Attempt]],
        prefix: str,
        *,
        newest_only: bool,
        what: str,
        start: Callable[[str], str],
    ) -> str:
        attempts = list_attempts()
        attempt = find_usable(attempts, prefix, newest_only=newest_only)
        if attempt is None:
            name = next_name(attempts, prefix)
            try:
                arn = start(name)
            except ServiceRefused as refused:
                if refused.code != EXISTS:
                    raise
                # Started by a call whose answer was lost.
                attempt = next((each for each in list_attempts() if each.name == name), None)
                if attempt is None:
                    raise
            else:
                self._progress(f"{what}: started as {name}")
                return arn
        return attempt.arn

    def _describe_job(self, arn: str) -> dict[str, Any]:
        answer = self._calls.call("describe_dataset_import_job", datasetImportJobArn=arn)
        return dict(answer["datasetImportJob"])

    def _describe_version(self, arn: str) -> Attempt:
        answer = self._calls.call("describe_solution_version", solutionVersionArn=arn)
        version = answer["solutionVersion"]
        return _attempt(version.get("name", ""), arn, version)


def _attempt(name: str, arn: str, entry: Mapping[str, Any]) -> Attempt:
    created = entry["creationDateTime"]
    at = created.timestamp() if isinstance(created, datetime) else float(created)
    return Attempt(name, arn, entry["status"], at)
