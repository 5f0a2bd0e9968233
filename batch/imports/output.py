"""A finished bootstrap output: the report, the CSV files, and a hash of what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from batch.imports.errors import ImportsError
from batch.imports.plan import MIN_INTERACTIONS, DatasetType, Mode, digest

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class BootstrapOutput:
    """`location` ends with a slash; `contents` has a hash for each dataset that has rows."""

    location: str
    report: Mapping[str, Any]
    contents: Mapping[DatasetType, str]

    def folder(self, dataset: DatasetType) -> str:
        """Where a dataset's files are."""
        return f"{self.location}{dataset.folder}/"

    def rows(self, dataset: DatasetType) -> int:
        """How many rows the report says it has."""
        return int(self.report[dataset.folder]["written"])


def read_output(s3: Any, location: str, mode: Mode) -> BootstrapOutput:
    """The output at `location` (`s3://bucket/prefix/run/`); raises ImportsError for one that is
    not complete or that Personalize would refuse."""
    parts = urlsplit(location)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    if parts.scheme != "s3" or not bucket or not prefix:
        raise ImportsError(f"{location!r} is not the place of a bootstrap output: s3://BUCKET/RUN/")
    location = f"s3://{bucket}/{prefix}/"
    try:
        report = _report(s3, bucket, f"{prefix}/{REPORT}", location)
        contents = {
            dataset: found
            for dataset in DatasetType
            if (found := _content(s3, bucket, f"{prefix}/{dataset.folder}/")) is not None
        }
    except (BotoCoreError, ClientError) as error:
        raise ImportsError(f"the bootstrap output {location} cannot be read: {error}") from error
    output = BootstrapOutput(location, report, contents)
    _check(output, mode)
    return output


def _report(s3: Any, bucket: str, key: str, location: str) -> dict[str, Any]:
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in ("NoSuchKey", "NoSuchBucket", "404"):
            raise
        raise ImportsError(
            f"there is no {REPORT} at {location}: the bootstrap has not ended, or it is another "
            "place."
        ) from error
    try:
        report = json.loads(body)
        for dataset in DatasetType:
            int(report[dataset.folder]["written"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImportsError(f"{location}{REPORT} is not the report of a bootstrap.") from error
    return dict(report)


def _content(s3: Any, bucket: str, prefix: str) -> str | None:
    """A hash over names, sizes and ETags; the same content in another folder has the same."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    files = [
        [entry["Key"].removeprefix(prefix), entry["Size"], entry["ETag"]]
        for page in pages
        for entry in page.get("Contents", ())
        if entry["Key"].endswith(".csv")
    ]
    return digest(sorted(files), 12) if files else None


def _check(output: BootstrapOutput, mode: Mode) -> None:
    report, location = output.report, output.location
    if mode is Mode.FULL and not report.get("trainable", True):
        problems = "; ".join(str(one) for one in report.get("problems", ())) or "no reason given"
        raise ImportsError(f"the bootstrap says that {location} cannot be trained on: {problems}")
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
