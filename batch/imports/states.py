"""Waits for the status of a resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from batch.imports.calls import NOT_FOUND, Calls
from batch.imports.errors import ImportsError, ServiceRefused

ACTIVE: Final = "ACTIVE"
COMPLETED: Final = "COMPLETED"
"""Of a data deletion job what ACTIVE is of the other resources."""
PROGRESS_SECONDS: Final = 10.0


def is_active(described: Mapping[str, Any], what: str, advice: str) -> bool:
    """Whether a resource is ACTIVE, a job COMPLETED.

    Raises ImportsError when it has failed or is being deleted.
    """
    status = described["status"]
    if status in (ACTIVE, COMPLETED):
        return True
    if status.startswith("DELETE"):
        raise ImportsError(f"{what} is being deleted ({status}). Run the same command again later.")
    if status.endswith(("FAILED", "STOPPED", "STOPPING")):
        reason = str(described.get("failureReason") or "Personalize gives no reason").rstrip(".")
        raise ImportsError(f"{what}: {status}: {reason}. {advice}")
    return False


class Waiting:
    """Waits for statuses, and reports them now and then."""

    def __init__(self, calls: Calls, progress: Callable[[str], None]) -> None:
        self._calls = calls
        self._progress = progress

    def until_active(
        self,
        describe: Callable[[], Mapping[str, Any]],
        what: str,
        advice: str = "Delete it, and run the same command again.",
    ) -> None:
        """Return when the described resource is ACTIVE; raises ImportsError as `is_active` does."""
        started = self._calls.clock.monotonic()
        reported = ""
        reported_at = started

        def check() -> bool:
            nonlocal reported, reported_at
            described = describe()
            active = is_active(described, what, advice)
            now, status = self._calls.clock.monotonic(), described["status"]
            if status != reported or now - reported_at >= PROGRESS_SECONDS:
                if reported or not active:  # no line for a resource that was ACTIVE before
                    self._progress(f"{what}: {status}, {now - started:.0f} s")
                reported, reported_at = status, now
            return active

        self._calls.wait(check, what)

    def until_gone(self, describe: Callable[[], Mapping[str, Any]], what: str) -> None:
        """Return when the service no longer finds the resource."""

        def is_gone() -> bool:
            try:
                describe()
            except ServiceRefused as refused:
                if refused.code == NOT_FOUND:
                    return True
                raise
            return False

        self._calls.wait(is_gone, f"the deletion of {what}")
