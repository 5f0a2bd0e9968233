"""CSV objects in S3, as lines: an object, or a folder of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from emulators.personalize.control.csv_rules import ImportRefused

_BUFFER_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CsvObject:
    """One object of an import."""

    bucket: str
    key: str
    size: int

    @property
    def uri(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


class Source:
    """Reads from the S3 that it was told; raises ImportRefused for what cannot be read."""

    def __init__(self, endpoint_url: str | None, region: str) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._client: Any = None

    def objects(self, location: str) -> list[CsvObject]:
        """The CSV files at `location`: the one object, or all `.csv` objects of the folder.

        Empty objects that only mark a folder, and names that begin with a dot or an underscore,
        are passed over; any other name that is not `.csv` is refused.
        """
        parts = urlsplit(location)
        bucket, key = parts.netloc, parts.path.lstrip("/")
        if parts.scheme != "s3" or not bucket:
            raise ImportRefused(f"{location} is not an s3:// location.")
        try:
            pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
            found = [
                CsvObject(bucket, entry["Key"], entry["Size"])
                for page in pages
                for entry in page.get("Contents", ())
            ]
        except (BotoCoreError, ClientError) as error:
            raise ImportRefused(f"cannot list {location}: {error}.") from error
        if key and not key.endswith("/"):
            found = [one for one in found if one.key == key or one.key.startswith(f"{key}/")]
        found = [one for one in found if not _is_marker(one)]
        if not found:
            raise ImportRefused(f"there is no CSV file at {location}.")
        other = next((one for one in found if not one.key.endswith(".csv")), None)
        if other is not None:
            raise ImportRefused(f"{other.uri} is not a CSV file.")
        return sorted(found, key=lambda one: one.key)

    def lines(self, one: CsvObject) -> Iterator[str]:
        """The lines of one object, decoded from UTF-8, in bounded memory."""
        try:
            body = self._s3().get_object(Bucket=one.bucket, Key=one.key)["Body"]
            buffered = io.BufferedReader(_Raw(body), _BUFFER_BYTES)
            with closing(body), io.TextIOWrapper(buffered, encoding="utf-8", newline="") as text:
                yield from text
        except (BotoCoreError, ClientError, OSError) as error:
            raise ImportRefused(f"cannot read {one.uri}: {error}.") from error

    def _s3(self) -> Any:
        if self._client is None:
            if self._endpoint_url is None:
                raise ImportRefused(
                    "this local Personalize was not told where S3 is (--s3-endpoint)."
                )
            self._client = boto3.client(
                "s3",
                endpoint_url=self._endpoint_url,
                region_name=self._region,
                aws_access_key_id="local",
                aws_secret_access_key="local",
                config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
            )
        return self._client


class _Raw(io.RawIOBase):
    """botocore's body as a raw stream."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _is_marker(one: CsvObject) -> bool:
    name = one.key.rsplit("/", 1)[-1]
    return (one.size == 0 and one.key.endswith("/")) or name.startswith((".", "_"))
