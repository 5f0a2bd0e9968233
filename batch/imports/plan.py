"""What is to be made, and under which names.

Pure. Everything is found again by its name: names follow from the settings, and where two runs may
differ, from a hash of what is imported. Names have 63 characters at most.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from batch.imports.errors import ImportsError

MAX_NAME_LENGTH: Final = 24
RECIPE: Final = "arn:aws:personalize:::recipe/aws-user-personalization-v2"
MIN_INTERACTIONS: Final = 1_000  # Guide, quotas: in one import job, also an incremental one
FILTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "genres": "INCLUDE ItemID WHERE Items.GENRES IN ($GENRES)",
        "not-skipped": 'EXCLUDE ItemID WHERE Interactions.event_type IN ("skip")',
    }
)
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]*")


class Mode(Enum):
    """How an import treats what was imported before; the values are the service's."""

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
        """The one of a dataset."""
        return {
            DatasetType.USERS: self.users,
            DatasetType.ITEMS: self.items,
            DatasetType.INTERACTIONS: self.interactions,
        }[dataset]


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """What the person chose.

    `name` is the dataset group's, the solution's and the campaign's, and begins all other names;
    `role_arn` lets Personalize read the bucket. `filters`: expressions by the end of their names.
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
        """Another schema has another name, since a schema never changes."""
        return f"{self.name}-{dataset.folder}-{digest(json.loads(schema), 8)}"

    def dataset_name(self, dataset: DatasetType) -> str:
        """The dataset's."""
        return f"{self.name}-{dataset.folder}"

    def job_prefix(self, dataset: DatasetType, content: str) -> str:
        """How the names of the import jobs of one content begin; the attempt's number follows."""
        mode = "full" if self.mode is Mode.FULL else "incr"
        return f"{self.name}-{dataset.folder}-{mode}-{content}-"

    def version_prefix(self, jobs: Iterable[str]) -> str:
        """The same of solution versions; `jobs` are the ARNs of the import jobs before it."""
        return f"{self.name}-{digest([*sorted(jobs), self.recipe_arn], 12)}-"

    def filter_name(self, ending: str) -> str:
        """The filter's."""
        return f"{self.name}-{ending}"


def digest(document: Any, length: int) -> str:
    """A hash (hexadecimal) of a JSON document, the same however it was written."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, slots=True)
class Attempt:
    """An import job or a solution version that was begun: its name, ARN, status, begin."""

    name: str
    arn: str
    status: str
    created_at: float

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a result."""
        return self.status in ("CREATE FAILED", "CREATE STOPPED", "CREATE STOPPING")


def usable(attempts: Sequence[Attempt], prefix: str, *, newest_only: bool) -> Attempt | None:
    """The attempt under this prefix to go on with, None when another must be begun.

    `newest_only`: one after which something else was begun does not count (FULL replaces what a
    later job has imported, so it has to be done again; INCREMENTAL must not be).
    """
    found = sorted((one for one in attempts if not one.has_failed), key=lambda one: one.created_at)
    if newest_only:
        found = found[-1:]
    return next((one for one in reversed(found) if one.name.startswith(prefix)), None)


def next_name(attempts: Sequence[Attempt], prefix: str) -> str:
    """The name of one attempt more: a failed one cannot be deleted, so its name is taken."""
    numbers = [
        int(one.name.removeprefix(prefix))
        for one in attempts
        if one.name.startswith(prefix) and one.name.removeprefix(prefix).isdecimal()
    ]
    return f"{prefix}{max(numbers, default=0) + 1}"
