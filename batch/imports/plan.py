"""The resources of an import and their names.

Pure. A resource is found by its name: names follow from the settings, and where two runs may
differ, from a hash of what is imported. Names have 63 characters at most.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Any, Final

from batch.imports.errors import ImportsError

MAX_NAME_LENGTH: Final = 24
RECIPE: Final = "arn:aws:personalize:::recipe/aws-user-personalization-v2"
MIN_INTERACTIONS: Final = 1_000  # Guide, quotas: in one import job, also an incremental one
FILTERS: Final[Mapping[str, str]] = {
    "genres": "INCLUDE ItemID WHERE Items.GENRES IN ($GENRES)",
    "not-skipped": 'EXCLUDE ItemID WHERE Interactions.event_type IN ("skip")',
}
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]*")


class Mode(Enum):
    """How an import treats former imports; the values are the service's."""

    FULL = "FULL"
    INCREMENTAL = "INCREMENTAL"


class DatasetType(Enum):
    """The datasets, in the order in which they are imported; the values are the service's."""

    USERS = "Users"
    ITEMS = "Items"
    INTERACTIONS = "Interactions"

    @property
    def folder(self) -> str:
        """Its folder in a bootstrap output, and its key in the report."""
        return self.value.lower()


@dataclass(frozen=True, slots=True)
class DatasetSchemas:
    """The schemas (Avro for Personalize, as JSON) of the three datasets."""

    users: str
    items: str
    interactions: str

    def of(self, dataset: DatasetType) -> str:
        """The schema of a dataset."""
        return {
            DatasetType.USERS: self.users,
            DatasetType.ITEMS: self.items,
            DatasetType.INTERACTIONS: self.interactions,
        }[dataset]


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """Settings of an import.

    `name` is the dataset group's, the solution's and the campaign's, and begins all other names;
    `role_arn` lets Personalize read the bucket. `filters`: expressions by the suffix of their
    names.
    """

    role_arn: str
    name: str = "tunemesh"
    mode: Mode = Mode.FULL
    recipe_arn: str = RECIPE
    filters: Mapping[str, str] = field(default_factory=lambda: FILTERS)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > MAX_NAME_LENGTH:
            raise ImportsError(
                f"the name {self.name!r} cannot be used: expected letters, digits, hyphens and "
                f"underscores, {MAX_NAME_LENGTH} at most, the first a letter or digit."
            )

    def schema_name(self, dataset: DatasetType, schema: str) -> str:
        """The name of a schema, with a hash of it, since a schema never changes."""
        return f"{self.name}-{dataset.folder}-{digest(json.loads(schema), 8)}"

    def dataset_name(self, dataset: DatasetType) -> str:
        """The name of a dataset."""
        return f"{self.name}-{dataset.folder}"

    def job_prefix(self, dataset: DatasetType, content: str) -> str:
        """The prefix of the names of a content's import jobs; the attempt's number follows."""
        mode = "full" if self.mode is Mode.FULL else "incr"
        return f"{self.name}-{dataset.folder}-{mode}-{content}-"

    def version_prefix(self, jobs: Iterable[str]) -> str:
        """The same for solution versions; `jobs` are the ARNs of the import jobs before it."""
        return f"{self.name}-{digest([*sorted(jobs), self.recipe_arn], 12)}-"

    def deletion_prefix(self, batch: str) -> str:
        """The same for data deletion jobs; ``batch`` is a hash of the deletions."""
        return f"{self.name}-deletion-{batch}-"

    def filter_name(self, ending: str) -> str:
        """The name of a filter."""
        return f"{self.name}-{ending}"


def digest(document: Any, length: int) -> str:
    """A hash (hexadecimal) of a JSON document, in any formatting."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A job or a solution version: name, ARN, status, time of its creation."""

    name: str
    arn: str
    status: str
    created_at: float

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a result."""
        return self.status in ("CREATE FAILED", "CREATE STOPPED", "CREATE STOPPING", "FAILED")


def find_usable(attempts: Sequence[Attempt], prefix: str, *, newest_only: bool) -> Attempt | None:
    """The attempt under this prefix to continue; None when another must be started.

    `newest_only`: an attempt followed by another job does not count (FULL replaces what a later job
    has imported, so it has to be repeated; INCREMENTAL must not be).
    """
    candidates = [attempt for attempt in attempts if not attempt.has_failed]
    candidates.sort(key=attrgetter("created_at"), reverse=True)
    if newest_only:
        del candidates[1:]
    return next((attempt for attempt in candidates if attempt.name.startswith(prefix)), None)


def next_name(attempts: Sequence[Attempt], prefix: str) -> str:
    """The name of another attempt: a failed one cannot be deleted, so its name is in use."""
    numbers = [
        int(attempt.name.removeprefix(prefix))
        for attempt in attempts
        if attempt.name.startswith(prefix) and attempt.name.removeprefix(prefix).isdecimal()
    ]
    return f"{prefix}{max(numbers, default=0) + 1}"
