"""The location of a data product on S3, and the names of its objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from connectors.aws.s3 import split_url
from schemas.model import Contract, ContractError

CURRENT: Final = "current.json"
"""The pointer to the version that readers read; a publication writes it last."""

VERSIONS: Final = "versions"
MANIFEST: Final = "manifest.json"
REJECTED: Final = "rejected.ndjson"
"""Rows that did not fit the contract, one JSON document a line; beside the manifest."""

DELETED: Final = "_deleted.parquet"
"""Ids of the users that were left out as deleted; the underscore hides it from query engines."""


@dataclass(frozen=True, slots=True)
class Location:
    """Bucket and prefix of a product: ``prefix`` is empty or ends with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Location:
        """The location of an ``s3://BUCKET/PREFIX/``; raises ValueError for anything else."""
        bucket, key = split_url(url)
        prefix = key.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")

    @classmethod
    def of(cls, contract: Contract) -> Location:
        """The location in a contract; raises ContractError."""
        try:
            return cls.parse(contract.location)
        except ValueError as error:
            raise ContractError(f"{contract.folder / 'contract.yaml'}: servers: {error}") from None

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def current(self) -> str:
        """The key of the pointer."""
        return self.prefix + CURRENT

    @property
    def versions(self) -> str:
        """How the keys of all versions begin."""
        return f"{self.prefix}{VERSIONS}/"

    def version(self, version: str) -> str:
        """How the keys of a version's objects begin."""
        return f"{self.versions}{version}/"

    def manifest(self, version: str) -> str:
        """The key of a version's manifest."""
        return self.version(version) + MANIFEST

    def url(self, key: str) -> str:
        """A key of this bucket as ``s3://...``."""
        return f"s3://{self.bucket}/{key}"
