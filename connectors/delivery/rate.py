"""The pace of calls: a token bucket whose rate follows what the destination lets through (AIMD)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

A_SECOND = 1.02
"""Seconds in which no more calls are sent than a second's quota. A little longer than one, since
some calls take longer than others to reach the service."""

_A_MOMENT = 0.001

_FIRST_PATIENCE = 2.0
_MAX_PATIENCE = 60.0

_MIN_TRIAL_CALLS = 20
"""Answers that are enough to measure the accepted share."""


@dataclass(slots=True)
class _Trial:
    """A period in which throttling does not slow down, to measure which share is accepted."""

    began: float
    offered: float
    accepted: int = 0
    throttled: int = 0


class Window:
    """Amounts used by the calls of the last second: at most `maximum` in any `A_SECOND`."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._used = 0
        self._uses: deque[tuple[float, int]] = deque()
        self.reserved = 0
        """For calls that are about to be sent."""

    def room(self, now: float) -> int:
        """The amount that may be reserved now."""
        uses = self._uses
        while uses and now - uses[0][0] >= A_SECOND - 1e-9:
            self._used -= uses.popleft()[1]
        return self._maximum - self.reserved - self._used

    def wait(self, now: float, amount: int = 1) -> float:
        """Seconds until the amount may be reserved; less when that depends on calls under way."""
        missing = amount - self.room(now)
        if missing <= 0:
            return 0.0
        for then, used in self._uses:
            missing -= used
            if missing <= 0:
                return then + A_SECOND - now
        return _A_MOMENT

    def reserve(self, amount: int = 1) -> None:
        """Reserve an amount for a call."""
        self.reserved += amount

    def use(self, now: float, amount: int = 1) -> None:
        """Use a reserved amount: its call is sent."""
        self.reserved -= amount
        self._used += amount
        self._uses.append((now, amount))

    def release(self, amount: int = 1) -> None:
        """Release a reserved amount: its call is not sent."""
        self.reserved -= amount


class AdaptiveRate:
    """A token bucket that refills at `rate(now)` calls a second.

    The rate starts at its ceiling (our share of the quota), is halved on throttling, down to a
    floor, and grows by `increase` a second otherwise. One round trip halves it once: a throttled
    call that was started before the last halving was sent at the old rate.

    Not all throttling depends on our pace: others share the quota, or a part of the service is in
    trouble and throttles a share of the calls, however few. Further halving would then end at the
    floor without effect. The sign: calls are throttled at less than a quarter of the pace that the
    service is expected to accept. Then the rate returns to its former value, and throttling does
    not slow it down during a trial: two seconds, and twice as long each time that it had no effect.
    The share that is accepted meanwhile is the expected pace from then on, so that a quota smaller
    than ours is measured within those two seconds.

    The bucket's tokens compensate late wake-ups; a window limits every second to the quota, also
    after a pause.

    Without a clock: every method takes the time, in seconds of one monotonic clock.
    """

    def __init__(
        self,
        *,
        ceiling: float,
        floor: float,
        increase: float,
        max_per_second: int,
        burst: float,
        now: float,
    ) -> None:
        """`ceiling` and `floor` in calls a second, `increase` in calls a second a second,
        `max_per_second` in calls, `burst` in seconds."""
        self._window = Window(max_per_second)
        self._ceiling = ceiling
        self._floor = min(floor, ceiling)
        self._increase = increase
        self._burst = burst
        self._rate = ceiling
        # One call may go at once; a full bucket would let a restarting job exceed the quota.
        self._tokens = 1.0
        self._then = now
        self._halved_at = float("-inf")
        self._peak = ceiling
        self._patience = _FIRST_PATIENCE
        self._patient_until = float("-inf")
        self._expected = ceiling
        self._second = int(now)
        self._second_accepted = 0
        # Calls that the rate would have allowed so far: its integral over time.
        self._offered = 0.0
        self._trial: _Trial | None = None

    def rate(self, now: float) -> float:
        """Calls a second at `now`."""
        self._advance(now)
        return self._rate

    def wait(self, now: float) -> float:
        """Seconds until a call may start, 0 when it may start now."""
        self._advance(now)
        missing = 1.0 - self._tokens
        # The tolerance is for sums of floats that end a hair below one whole call.
        return max(missing / self._rate if missing > 1e-9 else 0.0, self._window.wait(now))

    def take(self, now: float) -> None:
        """Start a call, after `wait` has returned 0; then it is either sent or dropped."""
        self._advance(now)
        self._tokens -= 1.0
        self._window.reserve()

    @property
    def started(self) -> int:
        """Calls that were started and are neither sent nor dropped yet."""
        return self._window.reserved

    def note_sent(self, now: float) -> None:
        """A started call is sent; on a busy machine some time after its start."""
        self._window.use(now)

    def note_dropped(self) -> None:
        """A started call is not sent."""
        self._window.release()

    def note_accepted(self, now: float) -> None:
        """A call has ended without being throttled."""
        if self._trial is not None:
            self._trial.accepted += 1
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_accepted = 0
        self._second_accepted += 1
        self._expected = max(self._expected, self._second_accepted)

    def note_throttled(self, *, started_at: float, now: float) -> bool:
        """A call that was started at `started_at` was throttled; True when that halved the rate."""
        self._advance(now)
        if now < self._patient_until:
            if self._trial is not None:
                self._trial.throttled += 1
            return False
        if started_at < self._halved_at:
            return False
        self._conclude_trial(now)
        if now - self._halved_at > 1.0:
            self._peak = self._rate
        if self._rate < self._expected / 4.0:
            self._begin_trial(now)
            return False
        self._rate = max(self._floor, self._rate / 2.0)
        # Tokens of the old rate must not be spent in a burst at the new one.
        self._tokens = min(self._tokens, self._capacity())
        self._halved_at = now
        return True

    def _begin_trial(self, now: float) -> None:
        if now - self._patient_until > _MAX_PATIENCE:
            self._patience = _FIRST_PATIENCE
        self._rate = self._peak
        self._halved_at = now
        self._patient_until = now + self._patience
        self._patience = min(_MAX_PATIENCE, self._patience * 2.0)
        self._trial = _Trial(now, self._offered)

    def _conclude_trial(self, now: float) -> None:
        trial, self._trial = self._trial, None
        if trial is None or trial.accepted + trial.throttled < _MIN_TRIAL_CALLS:
            return
        pace = (self._offered - trial.offered) / (now - trial.began)
        self._expected = pace * trial.accepted / (trial.accepted + trial.throttled)

    def _capacity(self) -> float:
        return 1.0 + self._rate * self._burst

    def _advance(self, now: float) -> None:
        elapsed = now - self._then
        if elapsed <= 0.0:
            return
        self._then = now
        before = self._rate
        self._rate = min(self._ceiling, before + self._increase * elapsed)
        # The mean of both rates: exact while the rate grows in a straight line.
        flow = elapsed * (before + self._rate) / 2.0
        self._offered += flow
        self._tokens = min(self._capacity(), self._tokens + flow)
