"""What the engine requires of a destination."""

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
"""Orders the versions of one key: a greater one is newer. Equally long for one destination."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one call, and of all calls together.

    max_records          entries in one call
    max_bytes            sum of `Destination.size` over the entries of one call
    max_record_bytes     `Destination.size` of a single entry; a larger one is rejected, unsent
    max_in_flight        calls under way at the same time, over all callers of an engine
    calls_per_second     the destination's quota; the engine uses its configured share of it
    bytes_per_second     its quota of `Destination.size`, shared likewise; None: no such quota. A
                         single entry above the share is sent alone
    one_per_order_key    at most one entry of an order key in a call. Needed where a call can
                         succeed in part: otherwise a newer entry could be accepted while an older
                         one of the same key has to be retried, and would overwrite it later.
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
    """Converts, groups, sends and classifies records.

    A record is converted once, by `prepare`; everything after works on the entry that it returned,
    so that neither waiting nor retries cost another conversion.
    """

    @property
    def name(self) -> str:
        """The name in messages and metrics."""

    @property
    def limits(self) -> Limits: ...

    def prepare(self, record: RecordT_contra) -> EntryT | Rejected:
        """The entry to send for a record, or why the destination would reject it.

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
        """Close connections. Called once, after the last call has ended."""


class Replacing(Protocol[EntryT_contra]):
    """A destination where an entry replaces the one before it completely.

    Optional: a destination without `version` gets every entry. With it, only the newest of the
    waiting entries of an order key is sent; see the engine for the others.
    An entry without an order key replaces nothing.
    """

    def version(self, entry: EntryT_contra) -> Version:
        """Orders the entries of one order key; of equal versions the later arrival is newer."""
