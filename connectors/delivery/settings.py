"""Settings of the engine; its limits are the destination's."""

from __future__ import annotations

from dataclasses import dataclass, fields

from schemas.settings import check_positive


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Pace, waits and memory of one engine. Times are in seconds.

    quota_share          part of the destination's quota that this process may use, above 0 up to 1:
                         with the job spread over four processes, a quarter each
    burst                what the token bucket holds beside one call, in seconds of the present
                         rate. It compensates late wake-ups; no second has more calls than the
                         share of the quota even so
    recovery             time in which the rate grows from nothing to its ceiling when nothing is
                         throttled: the additive increase is ceiling / recovery a second
    rate_floor           the lowest share of the ceiling that throttling can push the rate to
    backoff_base         the first wait before a retry is between 0 and this; it doubles with each
                         retry
    backoff_cap          ... up to this
    throttled_cap        ... but only up to this after throttling, where the rate already spreads
                         the calls: a longer wait would only hold up the caller of `deliver()`
    call_timeout         a call without an answer for this long is cancelled and retried. A safety
                         net: the destination's own time-out should be shorter
    max_buffered         entries that may wait at the same time; `deliver()` takes no more records
                         in until there is room
    remembered_versions  keys whose newest accepted version is remembered, where entries replace
                         each other; the least recently accepted are dropped first. About 250
                         bytes each
    """

    quota_share: float = 1.0
    burst: float = 0.1
    recovery: float = 5.0
    rate_floor: float = 0.02
    backoff_base: float = 0.1
    backoff_cap: float = 10.0
    throttled_cap: float = 0.2
    call_timeout: float = 30.0
    max_buffered: int = 20_000
    remembered_versions: int = 100_000

    def __post_init__(self) -> None:
        check_positive(self, *(field.name for field in fields(self)))
        check_positive(self, "quota_share", "rate_floor", high=1)
