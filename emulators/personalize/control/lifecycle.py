"""A resource, and its status, which depends on the time.

Pure. A resource without work becomes ACTIVE two steps after its creation. A resource with work (an
import, a training, a deployment) records when the work began and how it ended. The status is
computed from the time when it is read, so it needs no task and does not depend on restarts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

PENDING: Final = "CREATE PENDING"
IN_PROGRESS: Final = "CREATE IN_PROGRESS"
ACTIVE: Final = "ACTIVE"
FAILED: Final = "CREATE FAILED"
UNFINISHED: Final = (PENDING, IN_PROGRESS)

DATA_DELETION_STATUSES: Final = {
    PENDING: "PENDING",
    IN_PROGRESS: "IN_PROGRESS",
    ACTIVE: "COMPLETED",
    FAILED: "FAILED",
}
"""The names of the statuses of a data deletion job."""


@dataclass(slots=True)
class Resource:
    """A resource. Times in seconds since 1970; `math.inf` for times that are not known yet.

    `document` holds the members of a Describe response except status and times, by their names in
    the service's model.
    """

    arn: str
    kind: str
    name: str
    parent: str
    created_at: float
    running_at: float
    ready_at: float
    failure: str | None = None
    deleted_at: float = math.inf
    seeded: bool = False
    document: dict[str, Any] = field(default_factory=dict)

    def status(self, now: float, step: float) -> str:
        """The status at `now`; `step` is the duration of a timed state in seconds."""
        if now >= self.deleted_at:
            return "DELETE PENDING" if now < self.deleted_at + step else "DELETE IN_PROGRESS"
        if now >= self.ready_at:
            return ACTIVE if self.failure is None else FAILED
        return IN_PROGRESS if now >= self.running_at else PENDING

    def is_deleted(self, now: float, step: float) -> bool:
        """Whether the deletion is complete."""
        return now >= self.deleted_at + 2 * step

    def updated_at(self, now: float) -> float:
        """When the status last changed."""
        times = (self.created_at, self.running_at, self.ready_at, self.deleted_at)
        return max(time for time in times if time <= now or time == self.created_at)

    def finish(self, now: float, failure: str | None = None) -> None:
        """Record the end of the work; `failure` is the reason if it failed."""
        self.running_at = min(self.running_at, now)
        self.ready_at = now
        self.failure = failure


def transition_times(now: float, step: float) -> tuple[float, float]:
    """When a resource without work, created at `now`, becomes IN_PROGRESS and ACTIVE."""
    return now + step, now + 2 * step
