"""A complete bootstrap output: the report, the CSV files, and a hash of their content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batch.imports.errors import ImportsError
from batch.imports.plan import MIN_INTERACTIONS, DatasetType, Mode, digest
from connectors.aws.s3 import get_object, list_objects
from connectors.aws.sdk import service_errors
from connectors.products.location import Location

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class BootstrapOutput:
    """`location` ends with a slash; `contents` has a hash for each dataset that has rows."""

    location: str
    report: Mapping[str, Any]
    contents: Mapping[DatasetType, str]

    def folder(self, dataset: DatasetType) -> str:
        """The location of a dataset's files."""
        return f"{self.location}{dataset.folder}/"

    def rows(self, dataset: DatasetType) -> int:
        """The number of rows in the report."""
        return int(self.report[dataset.folder]["written"])


def read_output(s3: Any, location: str, mode: Mode) -> BootstrapOutput:
    """The output at `location` (`s3://bucket/prefix/run/`); raises ImportsError for one that is
    incomplete or that Personalize would reject."""
    try:
        root = Location.parse(location)
    except ValueError:
        root = None
    if root is None or not root.prefix:
        raise ImportsError(
            f"{location!r} is not the location of a bootstrap output: expected s3://BUCKET/RUN/"
        )
    with service_errors(f"read the bootstrap output {root}"):
        report = _report(s3, root)
        contents = {
            dataset: content
            for dataset in DatasetType
            if (content := _content(s3, root.bucket, f"{root.prefix}{dataset.folder}/")) is not None
        }
    output = BootstrapOutput(str(root), report, contents)
    _check(output, mode)
    return output


def _report(s3: Any, root: Location) -> dict[str, Any]:
    answer = get_object(s3, root.bucket, root.prefix + REPORT)
    if answer is None:
        raise ImportsError(
            f"there is no {REPORT} at {root}. Wait until the bootstrap has ended, or name the"
            " location of its run."
        )
    try:
        report = json.loads(answer[0])
        for dataset in DatasetType:
            int(report[dataset.folder]["written"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImportsError(f"{root}{REPORT} is not the report of a bootstrap.") from error
    return dict(report)


def _content(s3: Any, bucket: str, prefix: str) -> str | None:
    """A hash over names, sizes and ETags; the same content in another folder has the same."""
    files = [
        [entry["Key"].removeprefix(prefix), entry["Size"], entry["ETag"]]
        for entry in list_objects(s3, bucket, prefix)
        if entry["Key"].endswith(".csv")
    ]
    return digest(sorted(files), 12) if files else None


def _check(output: BootstrapOutput, mode: Mode) -> None:
    report, location = output.report, output.location
    if mode is Mode.FULL and not report.get("trainable", True):
        problems = "; ".join(map(str, report.get("problems", ()))) or "no reason given"
        raise ImportsError(f"{location} has not enough data for a training: {problems}")
    for dataset in DatasetType:
        has_files = dataset in output.contents
        if output.rows(dataset) and not has_files:
            raise ImportsError(
                f"{output.folder(dataset)} has no CSV files, but the report says "
                f"{output.rows(dataset)} rows: the output is not complete."
            )
    rows = output.rows(DatasetType.INTERACTIONS)
    if mode is Mode.FULL and not rows:
        raise ImportsError(f"{location} has no interactions to train on.")
    if 0 < rows < MIN_INTERACTIONS:
        raise ImportsError(
            f"{location} has {rows} interactions; Personalize takes {MIN_INTERACTIONS} or more in "
            "one import. Fewer reach it through the stream."
        )
