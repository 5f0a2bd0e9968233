"""Calls of the service, repeated on transient errors, and waits for its resources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from batch.imports.errors import ImportsError, ServiceRefused
from connectors.aws.classification import TRANSIENT_CODES
from connectors.clock import SYSTEM_CLOCK, Clock, growing_waits

IN_USE: Final = "ResourceInUseException"
EXISTS: Final = "ResourceAlreadyExistsException"
NOT_FOUND: Final = "ResourceNotFoundException"
LIMIT: Final = "LimitExceededException"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a status is polled, and for how long (seconds)."""

    first_poll: float = 1.0
    max_poll: float = 30.0
    max_wait: float = 6 * 3600.0
    """For a resource to become ACTIVE; a training may take hours."""
    patience: float = 900.0
    """For a service that throttles, fails, does not answer, or reports a resource in use."""


LOCAL_PACE: Final = Pace(first_poll=0.05, max_poll=1.0, max_wait=3600.0, patience=60.0)
"""For the emulator on this machine."""


class Calls:
    """Calls operations by their names in boto3.

    A call that is throttled, fails, or has no answer is repeated with growing waits. So a call may
    take effect and be repeated: a caller that creates a resource must expect that it exists.
    """

    def __init__(self, client: Any, pace: Pace, clock: Clock = SYSTEM_CLOCK) -> None:
        self._client = client
        self.clock = clock
        self.pace = pace

    def call(self, operation: str, *, again: frozenset[str] = frozenset(), **members: Any) -> Any:
        """The answer. `again`: transient error codes of this call, beside the general ones.

        Raises ServiceRefused, or ImportsError when the patience is exceeded.
        """
        started = self.clock.monotonic()
        for pause in self._pauses():
            try:
                return getattr(self._client, operation)(**members)
            except ClientError as error:
                answer = error.response.get("Error", {})
                code, message = answer.get("Code", ""), answer.get("Message", "")
                refused = ServiceRefused(operation, code, message)
                if code not in TRANSIENT_CODES | again:
                    raise refused from error
            except BotoCoreError as error:
                refused = ServiceRefused(operation, type(error).__name__, str(error))
            if self.clock.monotonic() - started >= self.pace.patience:
                raise ImportsError(
                    f"{refused}. That has lasted {self.pace.patience:.0f} s. Finished steps "
                    "are kept: run the same command again to continue."
                )
            self.clock.sleep(pause)
        raise AssertionError("pauses do not end")

    def pages(self, operation: str, listed: str, **members: Any) -> Iterator[dict[str, Any]]:
        """All entries of a List operation."""
        token: dict[str, Any] = {}
        while True:
            answer = self.call(operation, **members, **token)
            yield from answer[listed]
            if not answer.get("nextToken"):
                return
            token = {"nextToken": answer["nextToken"]}

    def wait(self, check: Callable[[], bool], what: str) -> None:
        """Return when `check` returns True; raise ImportsError when that takes too long."""
        started = self.clock.monotonic()
        for pause in self._pauses():
            if check():
                return
            if self.clock.monotonic() - started >= self.pace.max_wait:
                raise ImportsError(
                    f"{what} is not ready after {self.pace.max_wait:.0f} s. Personalize "
                    "continues; run the same command again to wait for it."
                )
            self.clock.sleep(pause)

    def _pauses(self) -> Iterator[float]:
        return growing_waits(self.pace.first_poll, self.pace.max_poll, 1.5)
