"""Objects on S3: their addresses, contents and listings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.exceptions

from connectors.aws.sdk import error_code

_ABSENT: Final = ("NoSuchKey", "NoSuchBucket", "404")


def split_url(url: str) -> tuple[str, str]:
    """Bucket and key of ``s3://BUCKET/KEY``; raises ValueError for any other text."""
    parts = urlsplit(url, allow_fragments=False)
    if parts.scheme not in ("s3", "s3a") or not parts.netloc:
        raise ValueError(f"{url!r} is no location; expected s3://BUCKET/PREFIX/")
    return parts.netloc, parts.path.removeprefix("/")


def get_object(s3: Any, bucket: str, key: str) -> tuple[bytes, str] | None:
    """Content and ETag of an object; None when it is absent. Other errors of boto3 go through."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["ETag"]
    except botocore.exceptions.ClientError as error:
        if error_code(error) in _ABSENT:
            return None
        raise


def list_objects(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Key, Size and ETag of each object whose key begins with ``prefix``."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", ())


def object_sizes(s3: Any, bucket: str, prefix: str) -> dict[str, int]:
    """Bytes of each object below ``prefix``, by the rest of its key."""
    entries = list_objects(s3, bucket, prefix)
    return {entry["Key"].removeprefix(prefix): entry["Size"] for entry in entries}


def delete_objects(s3: Any, bucket: str, keys: Iterable[str]) -> None:
    """Delete objects, a thousand a call."""
    rest = [{"Key": key} for key in keys]
    while rest:
        s3.delete_objects(Bucket=bucket, Delete={"Objects": rest[:1000], "Quiet": True})
        del rest[:1000]
