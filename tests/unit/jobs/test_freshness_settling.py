"""When a decoded record counts as settled in the joins' state, by time and load."""

from __future__ import annotations

import pytest

from jobs.freshness.settling import (
    COLD_SECONDS,
    MAX_OVERLOAD_SECONDS,
    MAX_QUEUE_SECONDS,
    MIN_JOIN_RECORDS_PER_SECOND,
    NORMAL_LATENCY_SECONDS,
    OVERLOAD_FACTOR,
    OVERLOAD_MEMORY_SECONDS,
    DimensionReader,
    OverloadMeter,
    SettlingModel,
    SettlingTimes,
)

SECONDS = 0.15
SETTLED = SECONDS * 1.01
USERS = ("users", 0)
START = 1000.0
INTERVAL = 0.05


def reader(cold: float = SECONDS) -> DimensionReader:
    return DimensionReader(SettlingModel(SettlingTimes(cold=cold, warm=SECONDS)))


def test_a_steady_flow_of_updates_settles_bit_by_bit() -> None:
    """What is older than the settling time counts, although newer ones keep coming."""
    users, now = reader(), START
    for offset in range(100):
        users.add_decoded(USERS, offset, now)
        now += SECONDS / 10
        assert offset - 22 <= users.settled(now)[USERS] <= offset + 1
    assert users.settled(now)[USERS] < 100
    assert users.settled(now + SECONDS)[USERS] == 100


@pytest.mark.parametrize(("records", "seconds"), [(5_000, 1.0), (100_000, MAX_QUEUE_SECONDS)])
def test_a_backlog_settles_as_fast_as_the_joins_take_it_in(records: int, seconds: float) -> None:
    """Read at once, it is queued before them; its time is in proportion, and bounded."""
    users = reader()
    for offset in range(records):
        users.add_decoded(USERS, offset, START)
    settled_at = START + SECONDS + seconds
    assert users.settled(settled_at - 0.05)[USERS] < records
    assert users.settled(settled_at + 0.05)[USERS] == records


def test_updates_slower_than_the_joins_are_never_queued() -> None:
    """However long they keep coming, the newest settles in the usual time."""
    users, now = reader(), START
    for offset in range(10_000):
        users.add_decoded(USERS, offset, now)
        now += 1.01 / MIN_JOIN_RECORDS_PER_SECOND
    assert users.settled(now + SETTLED)[USERS] == 10_000


def test_a_starting_function_is_given_more_time_to_settle() -> None:
    """Until it is warm; and nothing settles before what was decoded earlier."""
    users, now = reader(cold=5.0), START
    users.add_decoded(USERS, 0, now)
    assert users.settled(now + 4.9)[USERS] == 0
    assert users.settled(now + 5.1)[USERS] == 1
    now += COLD_SECONDS - 1.0
    users.add_decoded(USERS, 1, now)
    now += 2.0
    users.add_decoded(USERS, 2, now)
    assert users.settled(now + 2.9)[USERS] == 1
    assert users.settled(now + 3.1)[USERS] == 3
    now += 10.0
    users.add_decoded(USERS, 3, now)
    assert users.settled(now + SETTLED)[USERS] == 4


def test_restored_positions_have_settled() -> None:
    """They are in the state that the function was restored from; what is read then is not."""
    users = reader()
    users.add_restored({USERS: 10})
    assert users.settled(START)[USERS] == 10
    users.add_decoded(USERS, 10, START)
    assert users.settled(START)[USERS] == 10
    assert users.settled(START + SETTLED)[USERS] == 11


def test_an_overloaded_machine_delays_settling() -> None:
    """By the model's overload seconds, also if it became slow after the record was decoded."""
    users = reader()
    users.add_decoded(USERS, 0, START)
    users.model.overload_seconds = 2.0
    assert users.settled(START + SECONDS + 1.9)[USERS] == 0
    assert users.settled(START + SETTLED + 2.0)[USERS] == 1


@pytest.mark.parametrize(
    ("late", "seconds"),
    [(0.0, 0.0), (0.5, 0.5 * OVERLOAD_FACTOR), (100.0, MAX_OVERLOAD_SECONDS)],
)
def test_late_polls_show_an_overload(late: float, seconds: float) -> None:
    """In proportion, up to a bound; a normal latency is none."""
    meter = OverloadMeter(INTERVAL)
    meter.poll(START)
    meter.poll(START + INTERVAL + NORMAL_LATENCY_SECONDS + late)
    assert meter.seconds == pytest.approx(seconds)


def test_the_slowest_poll_counts_for_a_while() -> None:
    """Normal ones after it do not hide it at once; a slower one replaces it."""
    meter, now = OverloadMeter(INTERVAL), START

    def poll(after: float) -> None:
        nonlocal now
        now += after
        meter.poll(now)

    poll(0.0)
    poll(INTERVAL + NORMAL_LATENCY_SECONDS + 0.5)
    poll(INTERVAL + NORMAL_LATENCY_SECONDS + 0.75)
    memory = 0.75 * OVERLOAD_FACTOR + OVERLOAD_MEMORY_SECONDS
    for _ in range(int(memory / INTERVAL) - 1):
        poll(INTERVAL)
        assert meter.seconds == pytest.approx(0.75 * OVERLOAD_FACTOR)
    poll(2 * INTERVAL)
    assert meter.seconds == 0.0


def test_a_pause_is_no_overload() -> None:
    """Nothing was polled because no function was open."""
    meter = OverloadMeter(INTERVAL)
    meter.poll(START)
    meter.pause()
    meter.poll(START + 100.0)
    assert meter.seconds == 0.0
