"""What the engine needs to know of the place that it delivers to."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from connectors.delivery.outcomes import Outcome, Rejected
from schemas.settings import check_positive

RecordT_contra = TypeVar("RecordT_contra", contravariant=True)
EntryT = TypeVar("EntryT")
EntryT_contra = TypeVar("EntryT_contra", contravariant=True)

Version: TypeAlias = tuple[int, ...]
"""Orders the versions of one key: a greater one is newer. A destination's are equally long."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call, and all calls together, may not exceed.

    max_records          entries in one call
    max_bytes            sum of `Destination.size` over the entries of one call
    max_record_bytes     `Destination.size` of a single entry; a larger one is rejected, unsent
    max_in_flight        calls under way at the same time, over all callers of an engine
    calls_per_second     the destination's quota; the engine takes its configured share of it
    bytes_per_second     its quota of `Destination.size`, shared likewise; None: it has none. A
                         single entry above the share goes alone
    one_per_order_key    at most one entry of an order key in a call. Needed where a call can
                         succeed in part: otherwise a newer entry could be accepted while an older
                         one of the same key is refused for now, and the older would overwrite it
                         later.
    """

    max_records: int
    max_bytes: int
    max_record_bytes: int
    max_in_flight: int
    calls_per_second: float
    one_per_order_key: bool = False
    bytes_per_second: int | None = None

    def __post_init__(self) -> None:
        check_positive(
            self,
            "max_records",
            "max_bytes",
            "max_record_bytes",
            "max_in_flight",
            "calls_per_second",
        )
        if self.bytes_per_second is not None:
            check_positive(self, "bytes_per_second")


class Destination(Protocol[RecordT_contra, EntryT]):
    """Converts, groups, sends and classifies; the engine does the rest.

    A record is converted once, by `prepare`; everything after works on the entry that it returned,
    so that neither waiting nor retries cost another conversion.
    """

    @property
    def name(self) -> str:
        """As people know it; it is in messages and metrics."""

    @property
    def limits(self) -> Limits: ...

    def prepare(self, record: RecordT_contra) -> EntryT | Rejected:
        """The entry to send for a record, or why the destination would refuse it.

        Pure and quick. An exception is a bug of the destination, but costs only this record: it is
        rejected with the code `UnusableRecord`.
        """

    def batch_key(self, entry: EntryT) -> Hashable:
        """Entries with equal batch keys may share a call."""

    def order_key(self, entry: EntryT) -> Hashable | None:
        """Entries with equal order keys are sent in the order of their arrival; None: no order.

        Only when the earlier one has its outcome is a later one sent in another call.
        """

    def size(self, entry: EntryT) -> int:
        """Bytes that the entry adds to a call."""

    async def send(self, batch: Sequence[EntryT]) -> Sequence[Outcome]:
        """One call with all entries of the batch; one outcome for each entry, in the same order.

        Failures of the network and answers of the service are outcomes, classified by the service's
        error code. An exception is a bug of the destination and stops the delivery. Must stop at
        once when cancelled; the call may then have taken effect or not.
        """

    async def close(self) -> None:
        """Gives back connections. Called once, after the last call has ended."""


class Replacing(Protocol[EntryT_contra]):
    """What a destination has besides where an entry replaces the one before it, as a whole.

    Optional: a destination without `version` gets every entry. With it, only the newest of the
    waiting entries of an order key is sent; the engine's docstring says what becomes of the others.
    An entry without an order key replaces nothing.
    """

    def version(self, entry: EntryT_contra) -> Version:
        """Which of two entries of one order key is newer; of equal ones it is the later arrival."""
