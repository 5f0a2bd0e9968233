"""Batches of deleted users on S3: what each data deletion job was given, and its result.

    jobs/<dataset group>/<batch>/users.csv      the input of the job, as Personalize reads it
    jobs/<dataset group>/<batch>/batch.json     ids with the times of their deletions; put after it
    jobs/<dataset group>/<batch>/result.json    the completed job

The name of a batch is a hash of its deletions: the same deletions are the same batch, unless they
are to be done again. Batches are kept, so that later exports leave out their users, whose events
remain in the archive.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from batch.imports.plan import digest
from connectors.aws.s3 import get_object, list_objects
from connectors.aws.sdk import service_errors
from connectors.products.location import Location
from schemas.errors import TunemeshError
from schemas.model import Contract

PREFIX: Final = "jobs/"
MAX_CSV_BYTES: Final = 50_000_000
"""Personalize: the input of a data deletion job has 50 MB at most."""

HEADER: Final = "USER_ID"
_ADVICE: Final = "The deletions need s3:ListBucket and s3:GetObject there."


class BatchError(TunemeshError):
    """A file of a batch cannot be read."""


@dataclass(frozen=True, slots=True)
class Batch:
    """``deletions``: times (epoch ms) by user. ``result``: of the complete job, else None."""

    group: str
    name: str
    created_at: int
    deletions: Mapping[str, int]
    result: Mapping[str, Any] | None = None


class Batches:
    """The batches of all dataset groups; raises ServiceUnavailable."""

    def __init__(self, s3: Any, location: Location) -> None:
        self._s3 = s3
        self._location = location

    @classmethod
    def of(cls, s3: Any, contract: Contract) -> Batches:
        """Those in the bucket of the contract of deletions."""
        return cls(s3, Location(Location.of(contract).bucket, PREFIX))

    def list(self, group: str | None = None) -> Iterator[Batch]:
        """The batches of a dataset group, or of all; none where the bucket does not exist."""
        prefix = self._location.prefix + ("" if group is None else f"{group}/")
        with service_errors(f"list {self._location}", _ADVICE):
            try:
                keys = [e["Key"] for e in list_objects(self._s3, self._location.bucket, prefix)]
            except self._s3.exceptions.NoSuchBucket:
                return
        for key in keys:
            if key.endswith("/batch.json"):
                yield self._read(key)

    def put(
        self, group: str, deletions: Mapping[str, int], now_ms: int, *, again: bool = False
    ) -> Batch:
        """Put a batch; ``again``: another one than that of the same deletions."""
        content = [sorted(deletions.items()), now_ms if again else None]
        batch = Batch(group, digest(content, 12), now_ms, deletions)
        document = {"created_at": now_ms, "deletions": dict(deletions)}
        self._put(batch, "users.csv", csv_file(deletions))
        self._put(batch, "batch.json", json.dumps(document).encode())
        return batch

    def complete(self, batch: Batch, result: Mapping[str, Any]) -> None:
        """Note that the job of a batch is complete."""
        self._put(batch, "result.json", json.dumps(result).encode())

    def csv_url(self, batch: Batch) -> str:
        """The location of the input of its job."""
        return self._location.url(self._key(batch, "users.csv"))

    def _read(self, key: str) -> Batch:
        group, name = key.removeprefix(self._location.prefix).split("/")[:2]
        document = self._get(key) or {}
        result = self._get(key.removesuffix("batch.json") + "result.json")
        try:
            deletions = {str(user): int(at) for user, at in document["deletions"].items()}
            return Batch(group, name, int(document["created_at"]), deletions, result)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BatchError(f"{self._location.url(key)} is no batch of deletions") from None

    def _get(self, key: str) -> dict[str, Any] | None:
        with service_errors(f"read {self._location.url(key)}", _ADVICE):
            answer = get_object(self._s3, self._location.bucket, key)
        try:
            document: dict[str, Any] | None = None if answer is None else json.loads(answer[0])
        except ValueError:
            raise BatchError(f"{self._location.url(key)} is not JSON") from None
        return document

    def _put(self, batch: Batch, name: str, content: bytes) -> None:
        key = self._key(batch, name)
        with service_errors(f"write {self._location.url(key)}"):
            self._s3.put_object(Bucket=self._location.bucket, Key=key, Body=content)

    def _key(self, batch: Batch, name: str) -> str:
        return f"{self._location.prefix}{batch.group}/{batch.name}/{name}"


def merged(batches: Iterable[Batch]) -> dict[str, int]:
    """The newest deletion of each user."""
    deletions: dict[str, int] = {}
    for batch in batches:
        merge(deletions, batch.deletions)
    return deletions


def merge(deletions: dict[str, int], more: Mapping[str, int]) -> None:
    """Add deletions; of a user's, the newest one is kept."""
    for user, at in more.items():
        deletions[user] = max(at, deletions.get(user, at))


def csv_file(users: Iterable[str]) -> bytes:
    """The input of a data deletion job: "Preparing a list of users to delete", developer guide."""
    text = io.StringIO()
    writer = csv.writer(text, doublequote=False, escapechar="\\", lineterminator="\n")
    writer.writerow([HEADER])
    writer.writerows([user] for user in sorted(users))
    return text.getvalue().encode()


def parts(deletions: Mapping[str, int], max_bytes: int = MAX_CSV_BYTES) -> Iterator[dict[str, int]]:
    """The deletions in parts whose CSV file is small enough."""
    part: dict[str, int] = {}
    size = len(HEADER) + 1
    for user in sorted(deletions):
        # At worst each character is escaped, and the value quoted.
        line = 2 * len(user.encode()) + 3
        if part and size + line > max_bytes:
            yield part
            part, size = {}, len(HEADER) + 1
        part[user] = deletions[user]
        size += line
    if part:
        yield part
