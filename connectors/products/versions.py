"""Names of versions, the former versions that are kept, and the removal of all others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from connectors.aws.s3 import delete_objects, list_objects
from connectors.products.location import Location
from connectors.products.manifest import Former

KEPT_VERSIONS: Final = 3
"""Former versions that are kept, beside the current one."""

GRACE_MS: Final = 3_600_000
"""How long a version is kept after its successor's publication: readers may use it."""

_NAME: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


def version_name(opened_ms: int, token: str) -> str:
    """``20261123T142500Z-1a2b3c4d``: when it was opened, and eight random hex digits."""
    return f"{datetime.fromtimestamp(opened_ms // 1000, UTC):%Y%m%dT%H%M%SZ}-{token}"


def kept_versions(former: Iterable[Former], now_ms: int, keep: int) -> tuple[Former, ...]:
    """Those of the former versions (the newest first) that stay: ``keep`` of them, and each that
    was superseded within the last hour."""
    return tuple(
        version
        for position, version in enumerate(former)
        if position < keep or now_ms - version.superseded_at < GRACE_MS
    )


def remove_others(s3: Any, location: Location, kept: Iterable[str], before: str) -> tuple[str, ...]:
    """Remove all versions but the kept ones; returns the removed versions.

    These are former versions, and what killed or failed exports have left, unfinished multipart
    uploads included, if they were opened before ``before``: a later one may be an export under way.
    Errors of boto3 go through. Idempotent.
    """
    staying = set(kept)
    removed: dict[str, list[str]] = {}
    for entry in list_objects(s3, location.bucket, location.versions):
        key = entry["Key"]
        version = version_of(location, key)
        if version is not None and version not in staying and _opened(version) < _opened(before):
            removed.setdefault(version, []).append(key)
    for keys in removed.values():
        delete_objects(s3, location.bucket, keys)
    for upload in _unfinished_uploads(s3, location):
        version = version_of(location, upload["Key"])
        if version is not None and version not in staying and _opened(version) < _opened(before):
            s3.abort_multipart_upload(
                Bucket=location.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )
            removed.setdefault(version, [])
    return tuple(sorted(removed))


def version_of(location: Location, key: str) -> str | None:
    """The version that an object belongs to; None for other objects."""
    if not key.startswith(location.versions):
        return None
    version = key.removeprefix(location.versions).partition("/")[0]
    return version if _NAME.fullmatch(version) else None


def _opened(version: str) -> str:
    return version.partition("-")[0]


def _unfinished_uploads(s3: Any, location: Location) -> Iterator[dict[str, Any]]:
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=location.bucket, Prefix=location.versions
    )
    for page in pages:
        yield from page.get("Uploads", ())
