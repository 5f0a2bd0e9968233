"""Erases deleted users from a dataset group of Personalize.

No state is kept but on S3: a run that was killed anywhere continues when it is started again. A
batch that has no result is completed first, under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batch.deletions.batches import MAX_CSV_BYTES, Batch, Batches, merged, parts
from batch.deletions.users import DeletedUsers
from batch.imports.attempts import Attempts
from batch.imports.calls import Calls
from batch.imports.errors import ImportsError
from batch.imports.plan import ImportSettings
from batch.personalize_schemas import KEYWORDS

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Erasure:
    """A run: the completed batches, and the users that no CSV file can have."""

    batches: tuple[Batch, ...]
    unlistable: int = 0


def find_group(calls: Calls, name: str) -> str:
    """The ARN of a dataset group; raises ImportsError."""
    groups = list(calls.pages("list_dataset_groups", "datasetGroups"))
    for group in groups:
        if group["name"] == name:
            return str(group["datasetGroupArn"])
    known = ", ".join(sorted(group["name"] for group in groups)) or "none"
    raise ImportsError(f"there is no dataset group {name!r}; there are: {known}. See --name.")


def pending(users: DeletedUsers, done: Mapping[str, int]) -> dict[str, int]:
    """The deleted users that no batch has; ``done``: the newest deletion of those that one has."""
    return {user: at for user, at in users.gone.items() if at > done.get(user, -1)}


def run_deletions(
    calls: Calls,
    settings: ImportSettings,
    batches: Batches,
    users: DeletedUsers,
    *,
    again: bool = False,
    now_ms: Callable[[], int],
    max_bytes: int = MAX_CSV_BYTES,
    progress: Progress = lambda line: None,
) -> Erasure:
    """Delete the users that no complete job has deleted; ``again``: all of them.

    Returns when the jobs are complete. Raises ImportsError with the service's reason and what to
    do, ServiceUnavailable.
    """
    group = find_group(calls, settings.name)
    known = list(batches.list(settings.name))
    wanted = pending(users, {} if again else merged(known))
    listable = {user: at for user, at in wanted.items() if is_listable(user)}
    attempts = Attempts(calls, progress)
    completed = []

    def work() -> Iterator[Batch]:
        yield from (batch for batch in known if batch.result is None)
        for part in parts(listable, max_bytes):
            yield batches.put(settings.name, part, now_ms(), again=again)

    for batch in work():
        attempts.wait_idle(group)
        progress(f"batch {batch.name}: {len(batch.deletions):,} users")
        job = attempts.data_deletion(settings, group, batch.name, batches.csv_url(batch))
        result = {"job": job["dataDeletionJobArn"], "deleted": job.get("numDeleted")}
        batches.complete(batch, result)
        completed.append(Batch(batch.group, batch.name, batch.created_at, batch.deletions, result))
    return Erasure(tuple(completed), len(wanted) - len(listable))


def is_listable(user: str) -> bool:
    """Whether a CSV file can have the id: Personalize stores no reserved word and no line break."""
    return user not in KEYWORDS and not set(user) & set("\r\n\0")


def describe(batch: Batch) -> dict[str, Any]:
    """A batch for the report; without the ids of its users."""
    return {
        "batch": batch.name,
        "created_at": batch.created_at,
        "users": len(batch.deletions),
        **(batch.result or {"job": None, "deleted": None}),
    }
