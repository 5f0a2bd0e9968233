"""The contents of a version of a data product, and the pointer to the current version.

``versions/<version>/manifest.json`` lists the files with their rows, bytes and checksums;
``current.json`` names the version that readers read, and the former ones that are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from connectors.aws.s3 import get_object
from connectors.aws.sdk import service_errors
from connectors.products.columns import Column, Kind
from connectors.products.location import Location
from schemas.errors import TunemeshError


class ProductError(TunemeshError):
    """A data product cannot be read or published; the message says why and what to do."""


class NotPublished(ProductError):
    """There is no version of a product yet."""


@dataclass(frozen=True, slots=True)
class ProductFile:
    """One Parquet file: its name below the version's folder, rows, bytes, sha256 in hex."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of a product. Times are epoch milliseconds.

    product         the contract's name
    schema_version  of the contract, which the columns are from
    until           interactions: only events published before it; None: all
    rows            in all files together
    deleted         records left out because their domain marked them deleted; of interactions,
                    those of deleted users
    deleted_file    users: the ids of those, and when they were deleted
    rejected        rows that did not fit the contract, by reason; listed in ``rejected_file``
    """

    product: str
    schema_version: int
    version: str
    created_at: int
    until: int | None
    rows: int
    columns: tuple[Column, ...]
    files: tuple[ProductFile, ...]
    deleted: int = 0
    deleted_file: ProductFile | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    rejected_file: str | None = None

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in their order."""
        return tuple(column.name for column in self.columns)

    def to_json(self) -> bytes:
        """The content of ``manifest.json``."""
        document = {
            "product": self.product,
            "schema_version": self.schema_version,
            "version": self.version,
            "created_at": self.created_at,
            "until": self.until,
            "rows": self.rows,
            "deleted": self.deleted,
            "deleted_file": None if self.deleted_file is None else asdict(self.deleted_file),
            "rejected": {
                "rows": sum(self.rejected.values()),
                "reasons": dict(sorted(self.rejected.items())),
                "file": self.rejected_file,
            },
            "columns": [column.document() for column in self.columns],
            "files": [asdict(file) for file in self.files],
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, url: str) -> Manifest:
        """The manifest in a file's content; ``url`` is for the message of a ProductError."""
        with _readable(url):
            document = json.loads(content)
            rejected = document.get("rejected") or {}
            deleted_file = document.get("deleted_file")
            return cls(
                product=document["product"],
                schema_version=document["schema_version"],
                version=document["version"],
                created_at=document["created_at"],
                until=document["until"],
                rows=document["rows"],
                columns=tuple(
                    Column(entry["name"], Kind(entry["type"]), entry["nullable"])
                    for entry in document["columns"]
                ),
                files=tuple(ProductFile(**entry) for entry in document["files"]),
                deleted=document.get("deleted", 0),
                deleted_file=None if deleted_file is None else ProductFile(**deleted_file),
                rejected=rejected.get("reasons", {}),
                rejected_file=rejected.get("file"),
            )


@dataclass(frozen=True, slots=True)
class Former:
    """A version that was current until ``superseded_at``, epoch milliseconds."""

    version: str
    superseded_at: int


@dataclass(frozen=True, slots=True)
class Current:
    """The pointer; the next publication replaces it only if it still has this ``etag``."""

    version: str
    former: tuple[Former, ...]
    etag: str

    @staticmethod
    def to_json(version: str, former: tuple[Former, ...]) -> bytes:
        """The content of ``current.json``."""
        return json.dumps({"version": version, "former": [asdict(f) for f in former]}).encode()

    @classmethod
    def from_json(cls, content: bytes, url: str, etag: str = "") -> Current:
        """The pointer in a file's content; ``url`` is for the message of a ProductError."""
        with _readable(url):
            document = json.loads(content)
            former = [Former(**entry) for entry in document.get("former", ())]
            return cls(document["version"], tuple(former), etag)


def read_current(s3: Any, location: Location) -> Current | None:
    """The pointer of a product; None when nothing was ever published.

    Raises ServiceUnavailable, and ProductError for a pointer that cannot be read.
    """
    answer = _get(s3, location, location.current)
    if answer is None:
        return None
    content, etag = answer
    return Current.from_json(content, location.url(location.current), etag)


def read_manifest(s3: Any, location: Location, version: str | None = None) -> Manifest:
    """The manifest of a version of a product, of the current one by default.

    Raises NotPublished when nothing was published or that version was removed, ServiceUnavailable,
    and ProductError for a manifest that cannot be read.
    """
    if version is None:
        current = read_current(s3, location)
        if current is None:
            raise NotPublished(f"there is no data product at {location} yet. Export it first.")
        version = current.version
    answer = _get(s3, location, location.manifest(version))
    if answer is None:
        raise NotPublished(
            f"there is no version {version} of the product at {location}; former versions are"
            " removed some time after a newer one was published."
        )
    return Manifest.from_json(answer[0], location.url(location.manifest(version)))


def _get(s3: Any, location: Location, key: str) -> tuple[bytes, str] | None:
    with service_errors(f"read {location.url(key)}"):
        return get_object(s3, location.bucket, key)


@contextmanager
def _readable(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise ProductError(f"{url} cannot be read: {error!r}. Export the product again.") from error
