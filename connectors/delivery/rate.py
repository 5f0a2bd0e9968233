"""The pace of calls: a token bucket whose rate follows what the destination lets through (AIMD)."""

from __future__ import annotations

from collections import deque

A_SECOND = 1.02
"""Seconds in which no more calls are made than a second's quota. A little longer than one, since
some calls take longer than others to reach the service."""

_A_MOMENT = 0.001

_FIRST_PATIENCE = 2.0
_LONGEST_PATIENCE = 60.0

_ENOUGH_CALLS = 20
"""Answers from which a share can be told."""


class _Trial:
    """A time in which throttling is put up with, to see which share is accepted."""

    __slots__ = ("accepted", "began", "offered", "throttled")

    def __init__(self, began: float, offered: float) -> None:
        self.began = began
        self.offered = offered
        self.accepted = 0
        self.throttled = 0


class Window:
    """What the calls of the last second took, each an amount: `most` may be taken in any
    `A_SECOND`."""

    __slots__ = ("_kept", "_most", "_promised", "_taken")

    def __init__(self, most: int) -> None:
        self._most = most
        self._promised = 0
        self._taken = 0
        self._kept: deque[tuple[float, int]] = deque()

    def room(self, now: float) -> int:
        """What may be promised now."""
        kept = self._kept
        while kept and now - kept[0][0] >= A_SECOND - 1e-9:
            self._taken -= kept.popleft()[1]
        return self._most - self._promised - self._taken

    def wait(self, now: float, amount: int = 1) -> float:
        """Seconds until so much may be promised; at least until something else ends."""
        missing = amount - self.room(now)
        if missing <= 0:
            return 0.0
        for then, taken in self._kept:
            missing -= taken
            if missing <= 0:
                return then + A_SECOND - now
        return _A_MOMENT

    def promise(self, amount: int = 1) -> None:
        """A call with so much may be made, soon."""
        self._promised += amount

    def keep(self, now: float, amount: int = 1) -> None:
        """One that was promised is made."""
        self._promised -= amount
        self._taken += amount
        self._kept.append((now, amount))

    def withdraw(self, amount: int = 1) -> None:
        """One that was promised will not be made."""
        self._promised -= amount


class AdaptiveRate:
    """A token bucket that refills at `rate(now)` calls a second.

    The rate starts at its ceiling (our share of the quota), is halved on throttling, down to a
    floor, and grows by `increase` a second otherwise. One round trip halves it once: a throttled
    call that was started before the last halving tells nothing new, it was sent at the old rate.

    Not all throttling depends on our pace: others share the quota, or a part of the service is in
    trouble and turns away a share of the calls, however few. Halving on and on would then end at
    the floor and help nobody. The sign: calls are throttled at less than a quarter of the pace
    that the service is expected to take. Then the rate goes back to where it was, and throttling is
    put up with for a while: two seconds, and twice as long each time that it was in vain. The share
    that is accepted meanwhile tells what to expect from then on, so that a quota that is really
    smaller than ours is known after those two seconds.

    What the bucket has saved up makes up for late wake-ups; beside it a window sees to it that no
    second has more calls than the quota, also after a rest.

    Without a clock: every method is told the time, in seconds of one monotonic clock.
    """

    __slots__ = (
        "_burst",
        "_ceiling",
        "_expected",
        "_floor",
        "_halved_at",
        "_increase",
        "_offered",
        "_patience",
        "_patient_until",
        "_peak",
        "_rate",
        "_second",
        "_second_accepted",
        "_then",
        "_tokens",
        "_trial",
        "_window",
    )

    def __init__(
        self,
        *,
        ceiling: float,
        floor: float,
        increase: float,
        most_a_second: int,
        burst: float,
        now: float,
    ) -> None:
        """`ceiling` and `floor` in calls a second, `increase` in calls a second a second,
        `most_a_second` in calls, `burst` in seconds."""
        self._window = Window(most_a_second)
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
        """Calls a second at this moment."""
        self._advance(now)
        return self._rate

    def wait(self, now: float) -> float:
        """Seconds until a call may start, 0 when it may start now."""
        self._advance(now)
        missing = 1.0 - self._tokens
        # The tolerance is for sums of floats that end a hair below one whole call.
        return max(missing / self._rate if missing > 1e-9 else 0.0, self._window.wait(now))

    def take(self, now: float) -> None:
        """A call starts now; `wait` has just said that it may. Then it is `made`, or `given_up`."""
        self._advance(now)
        self._tokens -= 1.0
        self._window.promise()

    def made(self, now: float) -> None:
        """A call that was started is on its way; on a busy machine that is not at once."""
        self._window.keep(now)

    def given_up(self) -> None:
        """A call that was started will not be made after all."""
        self._window.withdraw()

    def accepted(self, now: float) -> None:
        """A call has ended without being throttled."""
        if self._trial is not None:
            self._trial.accepted += 1
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_accepted = 0
        self._second_accepted += 1
        self._expected = max(self._expected, self._second_accepted)

    def throttled(self, *, started_at: float, now: float) -> bool:
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
            self._put_up_with_it(now)
            return False
        self._rate = max(self._floor, self._rate / 2.0)
        # What was saved up at the old rate must not be spent in a burst at the new one.
        self._tokens = min(self._tokens, self._capacity())
        self._halved_at = now
        return True

    def _put_up_with_it(self, now: float) -> None:
        if now - self._patient_until > _LONGEST_PATIENCE:
            self._patience = _FIRST_PATIENCE
        self._rate = self._peak
        self._halved_at = now
        self._patient_until = now + self._patience
        self._patience = min(_LONGEST_PATIENCE, self._patience * 2.0)
        self._trial = _Trial(now, self._offered)

    def _conclude_trial(self, now: float) -> None:
        trial, self._trial = self._trial, None
        if trial is None or trial.accepted + trial.throttled < _ENOUGH_CALLS:
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
