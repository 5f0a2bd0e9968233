"""What can become of a record that a destination was asked to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination has accepted the record."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not accepted for now; the engine sends the record again, however often that takes.

    `after` is the number of seconds that the destination asked us to wait (its Retry-After), None
    when it said nothing. `throttled` says that we were too fast: it slows all calls to the
    destination down, not only this record.
    """

    after: float | None = None
    throttled: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The destination will never accept the record: it belongs in the dead letters, with this
    reason.

    `whole_call` says that the destination refused a call without saying which of its records is the
    bad one. The engine then bisects the batch; what `deliver()` returns never has it set.
    """

    code: str
    message: str
    whole_call: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """No record can be delivered until a person changes something: wrong credentials, no such
    target.

    `message` says what happened and what to do next.
    """

    code: str
    message: str


Outcome: TypeAlias = Delivered | Retry | Rejected | Fatal
"""What a destination says of a record."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """Not sent, or not sent again: the destination has accepted a newer version of the same key.

    Done, neither delivered nor rejected. Only the engine says so, and only once the newer version
    is in place: until then the older one is what is left if the newer is rejected.
    """


Settled: TypeAlias = Delivered | Rejected | Superseded
"""What `deliver()` says of a record."""

DELIVERED = Delivered()
"""The one that everybody can share: it holds nothing."""

SUPERSEDED = Superseded()
"""Likewise."""


class FatalDeliveryError(Exception):
    """Delivery to a destination cannot go on; its text is for the person who runs the pipeline."""

    def __init__(self, destination: str, code: str, message: str) -> None:
        super().__init__(f"Delivery to {destination} stopped ({code}): {message}")
        self.destination = destination
        self.code = code
        self.message = message


class DeliveryClosedError(Exception):
    """The engine was closed; records without an outcome were not acknowledged and will be read
    again."""

    def __init__(self, destination: str) -> None:
        super().__init__(
            f"Delivery to {destination} is closed. Records that had no outcome yet were not "
            "acknowledged."
        )
        self.destination = destination
