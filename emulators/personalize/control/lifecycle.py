"""A resource, and its status by the clock.

Pure. A resource that needs no work becomes ACTIVE by itself, two steps after it was created; one
that does (an import, a training, a deployment) says when its work began and how it ended. The
status is computed when it is asked for, so nothing has to run for it and a restart changes nothing.
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


@dataclass(slots=True)
class Resource:
    """One resource. Times in seconds since 1970; `math.inf` for what has not happened yet.

    `document` holds the members that Describe answers, by their names in the service's model,
    beside status and times.
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
        """The status at `now`; `step` is how many seconds a state lasts that the clock ends."""
        if now >= self.deleted_at:
            return "DELETE PENDING" if now < self.deleted_at + step else "DELETE IN_PROGRESS"
        if now >= self.ready_at:
            return ACTIVE if self.failure is None else FAILED
        return IN_PROGRESS if now >= self.running_at else PENDING

    def is_gone(self, now: float, step: float) -> bool:
        """Whether a deletion is over."""
        return now >= self.deleted_at + 2 * step

    def updated_at(self, now: float) -> float:
        """When the status changed last."""
        times = (self.created_at, self.running_at, self.ready_at, self.deleted_at)
        return max(time for time in times if time <= now or time == self.created_at)

    def finish(self, now: float, failure: str | None = None) -> None:
        """Its work has ended, well or not."""
        self.running_at = min(self.running_at, now)
        self.ready_at = now
        self.failure = failure


def by_clock(now: float, step: float) -> tuple[float, float]:
    """When a resource without work, created at `now`, is in progress, and when active."""
    return now + step, now + 2 * step
