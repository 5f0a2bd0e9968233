"""Objects by their address, on S3 or in a local folder.

``s3://bucket/key`` and ``file:///path``; the job itself reads and writes through Flink.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from connectors.aws.s3 import delete_objects, get_object, list_objects, object_sizes, split_url
from connectors.aws.sdk import sdk_client, service_errors

MIN_PART_BYTES: Final = 5 * 1024 * 1024
"""S3: each part of an upload but the last has this many bytes at least."""

MAX_PART_BYTES: Final = 1024 * 1024 * 1024
"""Bytes of a part that S3 copies; 5 GiB are allowed, smaller parts can be copied concurrently."""


class Storage(Protocol):
    """Objects by address; raises ServiceUnavailable, and FileNotFoundError for an absent one."""

    def read(self, address: str) -> bytes:
        """An object's content."""

    def write(self, address: str, content: bytes) -> None:
        """Put an object atomically."""

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Names of all objects below a folder, relative to it, with their bytes."""

    def head(self, address: str, size: int) -> bytes:
        """The first bytes of an object."""

    def compose(self, header: bytes, source: str, target: str) -> None:
        """Put a header and an object's content as a new object."""

    def remove(self, folder: str) -> None:
        """Remove all objects below a folder."""

    def path(self, address: str) -> str:
        """The path of an address that Flink matches with a pattern."""


def storage_of(address: str, region: str, endpoint_url: str | None) -> Storage:
    """The storage that an address is on, ``file:///folder`` or ``s3://bucket/prefix``."""
    return LocalStorage() if address.startswith("file:") else S3Storage(region, endpoint_url)


class LocalStorage:
    """Files; for trials and benchmarks without S3."""

    def read(self, address: str) -> bytes:
        return self._file(address).read_bytes()

    def write(self, address: str, content: bytes) -> None:
        file = self._file(address)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")
        part.write_bytes(content)
        part.replace(file)

    def sizes(self, folder: str) -> Mapping[str, int]:
        root = self._file(folder)
        return {
            str(file.relative_to(root)): file.stat().st_size
            for file in sorted(root.rglob("*"))
            if file.is_file()
        }

    def head(self, address: str, size: int) -> bytes:
        with self._file(address).open("rb") as file:
            return file.read(size)

    def compose(self, header: bytes, source: str, target: str) -> None:
        file = self._file(target)
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._file(source).open("rb") as content, file.open("wb") as output:
            output.write(header)
            output.flush()
            while os.sendfile(output.fileno(), content.fileno(), None, MAX_PART_BYTES):
                pass

    def remove(self, folder: str) -> None:
        shutil.rmtree(self._file(folder), ignore_errors=True)

    def path(self, address: str) -> str:
        return str(self._file(address))

    @staticmethod
    def _file(address: str) -> Path:
        return Path(unquote(urlsplit(address).path))


class S3Storage:
    """S3, by boto3. ``compose`` copies the content inside the service, but for its first 5 MiB."""

    def __init__(self, region: str, endpoint_url: str | None) -> None:
        self._client = sdk_client("s3", region, endpoint_url)

    def read(self, address: str) -> bytes:
        with service_errors(f"read {address}"):
            answer = get_object(self._client, *split_url(address))
        if answer is None:
            raise FileNotFoundError(address)
        return answer[0]

    def write(self, address: str, content: bytes) -> None:
        bucket, key = split_url(address)
        with service_errors(f"write {address}"):
            self._client.put_object(Bucket=bucket, Key=key, Body=content)

    def sizes(self, folder: str) -> Mapping[str, int]:
        with service_errors(f"list {folder}"):
            sizes = object_sizes(self._client, *split_url(folder.rstrip("/") + "/"))
        return {name: size for name, size in sizes.items() if name and not name.endswith("/")}

    def head(self, address: str, size: int) -> bytes:
        bucket, key = split_url(address)
        with service_errors(f"read {address}"):
            answer = self._client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{size - 1}")
            content: bytes = answer["Body"].read()
        return content

    def compose(self, header: bytes, source: str, target: str) -> None:
        bucket, key = split_url(target)
        from_bucket, from_key = split_url(source)
        with service_errors(f"write {target}"):
            head = self._client.head_object(Bucket=from_bucket, Key=from_key)
            size = int(head["ContentLength"])
            if size <= 2 * MIN_PART_BYTES:
                self.write(target, header + self.read(source))
                return
            upload = self._client.create_multipart_upload(
                Bucket=bucket, Key=key, ContentType="text/csv"
            )
            where = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}
            try:
                first = header + self.head(source, MIN_PART_BYTES)
                etags = [self._client.upload_part(**where, PartNumber=1, Body=first)["ETag"]]
                for begin, end in _ranges(MIN_PART_BYTES, size):
                    copied = self._client.upload_part_copy(
                        **where,
                        PartNumber=len(etags) + 1,
                        CopySource={"Bucket": from_bucket, "Key": from_key},
                        CopySourceRange=f"bytes={begin}-{end - 1}",
                    )
                    etags.append(copied["CopyPartResult"]["ETag"])
                parts = [{"PartNumber": n, "ETag": e} for n, e in enumerate(etags, start=1)]
                self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
            except BaseException:
                self._client.abort_multipart_upload(**where)
                raise

    def remove(self, folder: str) -> None:
        bucket, prefix = split_url(folder.rstrip("/") + "/")
        with service_errors(f"remove {folder}"):
            keys = [entry["Key"] for entry in list_objects(self._client, bucket, prefix)]
            delete_objects(self._client, bucket, keys)

    def path(self, address: str) -> str:
        return "/" + split_url(address)[1]


def _ranges(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Ranges of a copy, each at least as long as a part must be, but the last."""
    while begin < end:
        yield begin, min(begin + MAX_PART_BYTES, end)
        begin += MAX_PART_BYTES
