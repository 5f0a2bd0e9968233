"""The outcomes of a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination has accepted the record."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not accepted for now; the engine sends the record again, without a limit of attempts.

    `after` is the destination's Retry-After in seconds, None without one. `throttled`: too many
    calls, which slows down all calls to the destination, not only this record.
    """

    after: float | None = None
    throttled: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The destination will never accept the record: it becomes a dead letter with this reason.

    `whole_call`: the destination rejected a call without naming the bad record. The engine then
    bisects the batch; outcomes that `deliver()` returns never have it set.
    """

    code: str
    message: str
    whole_call: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """No record can be delivered until a person changes something, such as credentials.

    `message` says what happened and what to do next.
    """

    code: str
    message: str


Outcome: TypeAlias = Delivered | Retry | Rejected | Fatal
"""The outcome that a destination returns for a record."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """Not sent, or not sent again: the destination has accepted a newer version of the same key.

    Only the engine returns it, and only after the newer version was accepted: if that is rejected,
    the older one is sent.
    """


Settled: TypeAlias = Delivered | Rejected | Superseded
"""The outcome that `deliver()` returns for a record."""

DELIVERED = Delivered()
"""One instance for all records: it holds nothing."""

SUPERSEDED = Superseded()
"""One instance for all records: it holds nothing."""


class FatalDeliveryError(Exception):
    """Delivery to a destination has stopped; the text is for the operator of the pipeline."""

    def __init__(self, destination: str, code: str, message: str) -> None:
        super().__init__(f"Delivery to {destination} stopped ({code}): {message}")
        self.destination = destination
        self.code = code
        self.message = message


class DeliveryClosedError(Exception):
    """The engine was closed; records without an outcome are not acknowledged and are read again."""

    def __init__(self, destination: str) -> None:
        super().__init__(
            f"Delivery to {destination} is closed. Records that had no outcome yet were not "
            "acknowledged."
        )
        self.destination = destination
