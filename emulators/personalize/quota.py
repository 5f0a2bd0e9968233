"""Quotas in calls per second: a token bucket for each operation.

Source of the defaults: "Quotas" in the Amazon Personalize developer guide (PutEvents 1,000,
PutUsers and PutItems 10 per second, a campaign 500 per second for each runtime operation). The
rates of the operations on actions are not documented; 10 is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT_RATES: Mapping[str, float] = {
    "PutEvents": 1000.0,
    "PutUsers": 10.0,
    "PutItems": 10.0,
    "PutActions": 10.0,
    "PutActionInteractions": 10.0,
    "GetRecommendations": 500.0,
    "GetPersonalizedRanking": 500.0,
    "GetActionRecommendations": 500.0,
}


class TokenBucket:
    """Allows `rate` calls per second, and a burst of as many after a second without calls.

    The caller passes the time (seconds, monotonic). Not thread-safe: one event loop owns it.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._capacity = max(1.0, rate)
        self._tokens = self._capacity
        self._filled_at: float | None = None

    def take(self, now: float) -> bool:
        """Whether a call at `now` is within the quota; if it is, take a token for it."""
        if self._filled_at is not None:
            elapsed = max(0.0, now - self._filled_at)
            self._tokens = min(self._capacity, self._tokens + elapsed * self._rate)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Quotas:
    """A bucket for each operation; an operation with the rate None has no quota."""

    def __init__(self, rates: Mapping[str, float | None]) -> None:
        self._buckets = {
            operation: TokenBucket(rate) for operation, rate in rates.items() if rate is not None
        }

    def allow(self, operation: str, now: float) -> bool:
        """Whether this call of `operation` at `now` (seconds, monotonic) is within its quota."""
        bucket = self._buckets.get(operation)
        return bucket is None or bucket.take(now)


def parse_quota(text: str) -> tuple[str, float | None]:
    """The operation and rate in `put_events=1000`, or None for `put_events=off`.

    Raises ValueError with a message for the user.
    """
    names = {_option_name(operation): operation for operation in DEFAULT_RATES}
    name, separator, value = text.partition("=")
    operation = names.get(name)
    if operation is None or not separator:
        raise ValueError(
            f"'{text}' is not NAME=CALLS_PER_SECOND with NAME one of {', '.join(names)}"
        )
    if value == "off":
        return operation, None
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < float("inf"):
        raise ValueError(f"'{text}': calls per second must be a number above 0, or 'off'")
    return operation, rate


def _option_name(operation: str) -> str:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation)
    return words.lstrip("_")
