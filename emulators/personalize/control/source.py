"""Reads the lines of CSV objects in S3: one object, or all objects of a folder."""

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
    """An object of an import."""

    bucket: str
    key: str
    size: int

    @property
    def uri(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


class Source:
    """Reads from the S3 at an endpoint; raises ImportRefused for objects that cannot be read."""

    def __init__(self, endpoint_url: str | None, region: str) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._client: Any = None

    def list_objects(self, location: str) -> list[CsvObject]:
        """The CSV files at `location`: the object, or all `.csv` objects of the folder.

        Empty objects that mark a folder, and names that begin with a dot or an underscore, are
        skipped; other names without `.csv` are refused.
        """
        parts = urlsplit(location)
        bucket, key = parts.netloc, parts.path.lstrip("/")
        if parts.scheme != "s3" or not bucket:
            raise ImportRefused(f"{location} is not an s3:// location.")
        try:
            pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
            objects = [
                CsvObject(bucket, entry["Key"], entry["Size"])
                for page in pages
                for entry in page.get("Contents", ())
            ]
        except (BotoCoreError, ClientError) as error:
            raise ImportRefused(f"cannot list {location}: {error}.") from error
        if key and not key.endswith("/"):
            objects = [o for o in objects if o.key == key or o.key.startswith(f"{key}/")]
        objects = [o for o in objects if not _is_marker(o)]
        if not objects:
            raise ImportRefused(f"there is no CSV file at {location}.")
        other = next((o for o in objects if not o.key.endswith(".csv")), None)
        if other is not None:
            raise ImportRefused(f"{other.uri} is not a CSV file.")
        return sorted(objects, key=lambda o: o.key)

    def read_lines(self, csv_object: CsvObject) -> Iterator[str]:
        """The lines of an object, decoded from UTF-8, in bounded memory."""
        try:
            body = self._s3().get_object(Bucket=csv_object.bucket, Key=csv_object.key)["Body"]
            buffered = io.BufferedReader(_Raw(body), _BUFFER_BYTES)
            with closing(body), io.TextIOWrapper(buffered, encoding="utf-8", newline="") as text:
                yield from text
        except (BotoCoreError, ClientError, OSError) as error:
            raise ImportRefused(f"cannot read {csv_object.uri}: {error}.") from error

    def _s3(self) -> Any:
        if self._client is None:
            if self._endpoint_url is None:
                raise ImportRefused("the emulator has no S3; start it with --s3-endpoint.")
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
    """A body of botocore as a raw stream."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _is_marker(csv_object: CsvObject) -> bool:
    key = csv_object.key
    name = key.rsplit("/", 1)[-1]
    return (csv_object.size == 0 and key.endswith("/")) or name.startswith((".", "_"))
