"""The rate of calls: its bounds, whatever the service answers."""

from __future__ import annotations

from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.delivery.rate import AdaptiveRate


@settings(max_examples=300, derandomize=True, database=None)
@given(
    ceiling=st.floats(0.5, 5_000),
    floor=st.floats(0.1, 100),
    burst=st.floats(0.001, 2),
    steps=st.lists(
        st.tuples(st.floats(0, 2), st.sampled_from(["call", "throttled", "stale"])), max_size=80
    ),
)
def test_the_rate_keeps_its_bounds(
    ceiling: float, floor: float, burst: float, steps: list[tuple[float, str]]
) -> None:
    """Between floor and ceiling always; no more calls than rate and burst allow, nor in a second
    more than the most."""
    most = ceil(ceiling)
    rate = AdaptiveRate(
        ceiling=ceiling,
        floor=floor,
        increase=ceiling / 5,
        max_per_second=most,
        burst=burst,
        now=0.0,
    )
    now, taken, halved_at = 0.0, [], -1.0
    for pause, step in steps:
        now += pause
        if step == "call":
            wait = rate.wait(now)
            assert wait >= 0
            now += wait
            assert rate.wait(now) < 1e-6
            rate.take(now)
            rate.note_sent(now)
            taken.append(now)
        elif step == "throttled":
            before = rate.rate(now)
            if rate.note_throttled(started_at=now, now=now):
                assert rate.rate(now) == max(min(floor, ceiling), before / 2)
                halved_at = now
            else:  # in a trial
                assert rate.rate(now) >= before
        elif halved_at >= 0:
            before = rate.rate(now)
            assert not rate.note_throttled(started_at=halved_at - 0.01, now=now)
            assert rate.rate(now) == before
        assert min(floor, ceiling) <= rate.rate(now) <= ceiling
    for index, start in enumerate(taken):
        for count, end in enumerate(taken[index:], start=1):
            assert count <= (end - start) * ceiling + 1.0 + ceiling * burst + 1.001
            assert count <= most or end - start >= 1.0
