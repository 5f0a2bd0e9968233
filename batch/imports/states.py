"""What a resource's status means for somebody who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from batch.imports.calls import NOT_FOUND, Calls
from batch.imports.errors import ImportsError, ServiceRefused

ACTIVE: Final = "ACTIVE"
PROGRESS_SECONDS: Final = 10.0


def settled(described: Mapping[str, Any], what: str, advice: str) -> bool:
    """Whether it is ACTIVE; raises ImportsError when it has failed or is being deleted."""
    status = described["status"]
    if status == ACTIVE:
        return True
    if status.startswith("DELETE"):
        raise ImportsError(f"{what} is being deleted ({status}). Run the same command again later.")
    if status.endswith(("FAILED", "STOPPED", "STOPPING")):
        reason = str(described.get("failureReason") or "Personalize gives no reason").rstrip(".")
        raise ImportsError(f"{what}: {status}: {reason}. {advice}")
    return False


class Waiting:
    """Waits for statuses, and says now and then how it stands."""

    def __init__(self, calls: Calls, progress: Callable[[str], None]) -> None:
        self._calls = calls
        self._progress = progress

    def until_active(
        self,
        describe: Callable[[], Mapping[str, Any]],
        what: str,
        advice: str = "Delete it, and run the same command again.",
    ) -> None:
        """Returns when what `describe` gives is ACTIVE; raises ImportsError as `settled` does."""
        started = self._calls.clock.monotonic()
        said = ""
        said_at = started

        def look() -> bool:
            nonlocal said, said_at
            described = describe()
            is_active = settled(described, what, advice)
            now, status = self._calls.clock.monotonic(), described["status"]
            if status != said or now - said_at >= PROGRESS_SECONDS:
                if said or not is_active:  # what was there already is not worth a line
                    self._progress(f"{what}: {status}, {now - started:.0f} s")
                said, said_at = status, now
            return is_active

        self._calls.wait(look, what)

    def until_gone(self, describe: Callable[[], Mapping[str, Any]], what: str) -> None:
        """Returns when `describe` finds nothing any more."""

        def look() -> bool:
            try:
                describe()
            except ServiceRefused as refused:
                if refused.code == NOT_FOUND:
                    return True
                raise
            return False

        self._calls.wait(look, f"the deletion of {what}")
