"""Records of a DynamoDB table from the files that ExportTableToPointInTime writes to S3.

Below the export's prefix, as the DynamoDB Developer Guide describes it ("DynamoDB table export
output format"):

    AWSDynamoDB/<export id>/manifest-summary.json    one object: itemCount, manifestFilesS3Key, ...
    AWSDynamoDB/<export id>/manifest-files.json      a line a file: itemCount, md5Checksum, key
    AWSDynamoDB/<export id>/data/<name>.json.gz      a line an item: {"Item": {"id": {"S": "..."}}}
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from batch.exports.records import Partition
from connectors.aws.sdk import service_errors
from connectors.products.location import Location
from connectors.stores.dynamodb import from_item
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord, Reason

SUMMARY: Final = "manifest-summary.json"
FORMAT: Final = "DYNAMODB_JSON"


class ExportFilesError(TunemeshError):
    """Export files are incomplete or differ from their manifest."""


@dataclass(frozen=True, slots=True)
class _DataFile:
    key: str
    items: int
    md5: str


class PointInTimeExport:
    """One complete export. ``location`` is its folder, ``s3://BUCKET/.../AWSDynamoDB/<id>/``.

    Every file is checked against its MD5 and its count of items before its items are passed on;
    files of the service are a few hundred MB at most, and one thread holds one compressed file.
    """

    def __init__(self, s3: Any, location: Location) -> None:
        self._s3 = s3
        self._location = location

    def partitions(self) -> Sequence[Partition]:
        """The data files. Raises ExportFilesError for an export that is incomplete, incremental, or
        of another format than DYNAMODB_JSON."""
        summary = self._summary()
        files = self._files(summary)
        total = sum(file.items for file in files)
        if total != summary["itemCount"]:
            raise ExportFilesError(
                f"{self._location}: the files have {total:,} items and the summary says"
                f" {summary['itemCount']:,}. Export the table again."
            )
        return [
            Partition(self._location.url(file.key), partial(self._read, file)) for file in files
        ]

    def close(self) -> None:
        """Do nothing: there is no connection to close."""

    def _summary(self) -> Mapping[str, Any]:
        key = self._location.prefix + SUMMARY
        try:
            summary: Mapping[str, Any] = json.loads(self._get(key))
            if summary["outputFormat"] != FORMAT:
                raise ExportFilesError(
                    f"{self._location}: the format is {summary['outputFormat']}, expected {FORMAT}."
                )
            if summary.get("exportType", "FULL_EXPORT") != "FULL_EXPORT":
                raise ExportFilesError(
                    f"{self._location} is an incremental export; a product needs a full one."
                )
            int(summary["itemCount"]), str(summary["manifestFilesS3Key"])
        except (ValueError, KeyError, TypeError) as error:
            raise ExportFilesError(
                f"{self._location.url(key)} is not the summary of an export: {error!r}."
            ) from error
        return summary

    def _files(self, summary: Mapping[str, Any]) -> list[_DataFile]:
        key = summary["manifestFilesS3Key"]
        try:
            return [
                _DataFile(entry["dataFileS3Key"], int(entry["itemCount"]), entry["md5Checksum"])
                for line in self._get(key).splitlines()
                if line.strip()
                for entry in (json.loads(line),)
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise ExportFilesError(
                f"{self._location.url(key)} is not the list of an export's files: {error!r}."
            ) from error

    def _read(self, file: _DataFile) -> Iterator[Mapping[str, Any] | InvalidRecord]:
        content = self._get(file.key)
        if base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()) != (
            file.md5.encode()
        ):
            raise ExportFilesError(
                f"{self._location.url(file.key)} differs from what the export has written (MD5)."
            )
        count = 0
        with gzip.open(io.BytesIO(content)) as lines:
            for line in lines:
                count += 1
                try:
                    yield from_item(json.loads(line)["Item"])
                except InvalidRecord as error:
                    yield error
                except (ValueError, KeyError, TypeError, AttributeError):
                    yield InvalidRecord(Reason.WRONG_TYPE, "the line is not an item")
        if count != file.items:
            raise ExportFilesError(
                f"{self._location.url(file.key)} has {count:,} items, its manifest says"
                f" {file.items:,}."
            )

    def _get(self, key: str) -> bytes:
        with service_errors(
            f"read {self._location.url(key)}", "Is the export COMPLETED? See describe-export."
        ):
            body: bytes = self._s3.get_object(Bucket=self._location.bucket, Key=key)["Body"].read()
        return body
