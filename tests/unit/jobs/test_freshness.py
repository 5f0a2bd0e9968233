"""An event passes when every user and item published before it has been read, and not before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest

from connectors.kafka.offsets import Offsets, Partition
from jobs.freshness.watch import (
    CLOCK_SKEW_MS,
    COLD_SECONDS,
    EASY_SECONDS,
    INTERVAL_SECONDS,
    JOIN_RECORDS_PER_SECOND,
    LONGEST_QUEUE_SECONDS,
    STRAIN,
    STRAINED_SECONDS,
    STUCK_SECONDS,
    UNCLAIMED_SECONDS,
    Freshness,
    Reading,
    Settling,
    WorkerClosing,
    begin_anew,
)

SETTLE_SECONDS = 0.15
SETTLED = SETTLE_SECONDS * 1.01
SETTLING = Settling(cold=SETTLE_SECONDS, warm=SETTLE_SECONDS)
USERS, ITEMS = ("users", 0), ("songs", 0)


class Store:
    """Kafka's offsets in memory, shared by the workers of a test."""

    def __init__(self) -> None:
        self.end = {USERS: 0, ITEMS: 0}
        self.groups: dict[str, dict[Partition, int]] = {}

    def partitions(self, topics: Iterable[str]) -> tuple[Partition, ...]:
        return tuple((topic, 0) for topic in topics)

    def ends(self, partitions: Iterable[Partition]) -> Offsets:
        return {partition: self.end[partition] for partition in partitions}

    def committed(self, group: str, partitions: Iterable[Partition]) -> Offsets:
        return {p: self.groups.get(group, {}).get(p, 0) for p in partitions}

    def commit(self, group: str, offsets: Offsets) -> None:
        self.groups.setdefault(group, {}).update(offsets)


class Worker:
    """A worker with one function of users and items, on clocks that the test moves."""

    def __init__(self, store: Store, now: list[float]) -> None:
        self.now = now
        self.freshness = Freshness(
            store,
            ("users", "songs"),
            group="g-freshness",
            source_group="g",
            monotonic=lambda: now[0],
            wall_ms=lambda: int(now[0] * 1000),
        )
        self.reading = Reading(SETTLING)
        self.freshness.follow(self.reading)

    def read(self, partition: Partition, *offsets: int) -> None:
        for offset in offsets:
            self.reading.decoded(partition, offset, self.now[0])

    def ask(self) -> None:
        """A question on a machine at ease, however far the test has moved the clock."""
        self.freshness.rested()
        self.freshness.ask()

    def is_fresh(self) -> bool:
        """Whether an event published at this moment passes after a question asked a bit later."""
        published_ms = int(self.now[0] * 1000)
        self.now[0] += (CLOCK_SKEW_MS + 1) / 1000
        self.ask()
        return self.freshness.fresh_until_ms >= published_ms


def wait_until(reached: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if reached():
            return
        threading.Event().wait(0.001)
    raise AssertionError("waited ten seconds in vain")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


def started(store: Store, now: list[float], restored: Offsets | None = None) -> Worker:
    """A worker that has opened; ``restored``: what it sees of its restored state."""
    worker = Worker(store, now)
    worker.freshness.exact = restored is not None
    worker.reading.restored(restored or {})
    worker.freshness.start()
    return worker


def test_with_empty_topics_events_pass_at_once(store: Store, now: list[float]) -> None:
    """There is nothing to wait for."""
    assert started(store, now).is_fresh()


def test_an_event_waits_for_the_backlog(store: Store, now: list[float]) -> None:
    """And passes when the last user of it has settled in the join's state."""
    store.end[USERS] = 3
    worker = started(store, now)
    assert not worker.is_fresh()
    worker.read(USERS, 0, 1)
    now[0] += SETTLED
    assert not worker.is_fresh()
    worker.read(USERS, 2)
    assert not worker.is_fresh()
    now[0] += SETTLED
    assert worker.is_fresh()


def test_another_workers_backlog_is_waited_for(store: Store, now: list[float]) -> None:
    """However late that worker starts: nobody has claimed to have read it."""
    store.end[ITEMS] = 2
    early = started(store, now)
    now[0] += UNCLAIMED_SECONDS / 2
    assert not early.is_fresh()
    late = started(store, now)
    assert not early.is_fresh()
    late.read(ITEMS, 0, 1)
    now[0] += SETTLED
    late.ask()
    assert early.is_fresh()


def test_a_live_update_holds_the_event_behind_it(store: Store, now: list[float]) -> None:
    """In the middle of the stream, too, and only until it is read."""
    worker = started(store, now)
    assert worker.is_fresh()
    store.end[USERS] = 1
    assert not worker.is_fresh()
    worker.read(USERS, 0)
    now[0] += SETTLED
    assert worker.is_fresh()


def test_claims_of_a_former_attempt_do_not_count(store: Store, now: list[float]) -> None:
    """After a restart from a checkpoint the rest is read again, and waited for."""
    store.end[USERS] = 10
    before = started(store, now)
    before.read(USERS, *range(10))
    now[0] += SETTLED
    assert before.is_fresh()
    store.commit("g", {USERS: 6})
    after = started(store, now)
    assert not after.is_fresh()
    after.read(USERS, 6, 7, 8, 9)
    now[0] += SETTLED
    assert after.is_fresh()


def test_a_restored_job_with_nothing_to_read_does_not_wait(store: Store, now: list[float]) -> None:
    """Where Flink goes on is what it has committed."""
    store.end.update({USERS: 10, ITEMS: 5})
    store.commit("g", {USERS: 10, ITEMS: 5})
    assert started(store, now).is_fresh()


def test_restored_state_says_how_far_it_has_read(store: Store, now: list[float]) -> None:
    """Whatever the group has committed: Flink's last commit before a stop may be missing."""
    store.end.update({USERS: 10, ITEMS: 5})
    worker = started(store, now, {USERS: 10, ITEMS: 5})
    assert worker.is_fresh()
    store.end[USERS] = 11
    assert not worker.is_fresh()
    worker.read(USERS, 10)
    now[0] += SETTLED
    assert worker.is_fresh()


def test_state_of_long_ago_is_not_taken_for_what_its_group_has_read_since(
    store: Store, now: list[float]
) -> None:
    """A snapshot of an hour ago: what has come since is read again before the first event."""
    store.end.update({USERS: 10, ITEMS: 5})
    store.commit("g", {USERS: 10, ITEMS: 5})
    interactions = started(store, now, {})
    assert not interactions.is_fresh()
    worker = started(store, now, {USERS: 4, ITEMS: 5})
    assert not worker.is_fresh()
    worker.read(USERS, *range(4, 10))
    now[0] += SETTLED
    assert worker.is_fresh()
    assert interactions.is_fresh()


def test_a_new_application_waits_whatever_its_group_has_committed(
    store: Store, now: list[float]
) -> None:
    """Submitted again without a savepoint it has no state, though its group read all of it once."""
    store.end.update({USERS: 10, ITEMS: 5})
    store.commit("g", {USERS: 10, ITEMS: 5})
    begin_anew(store, ("users", "songs"), "g")
    assert not started(store, now).is_fresh()


def test_a_checkpoint_tells_where_a_restored_job_goes_on(store: Store, now: list[float]) -> None:
    """Also when the group's offsets were forgotten at the submission."""
    store.end.update({USERS: 10, ITEMS: 5})
    worker = started(store, now)
    assert not worker.is_fresh()
    store.commit("g", {USERS: 10, ITEMS: 5})
    worker.is_fresh()
    assert worker.is_fresh()


def test_a_worker_claims_again_what_another_has_reset(store: Store, now: list[float]) -> None:
    """A worker that opens late resets the claims of all; those who have read say so again."""
    store.end[USERS] = 1
    first = started(store, now)
    first.read(USERS, 0)
    now[0] += SETTLED
    assert first.is_fresh()
    second = started(store, now)
    first.ask()
    assert second.is_fresh()


def test_an_earlier_savepoint_is_read_from_where_it_is(store: Store, now: list[float]) -> None:
    """Flink's committed offsets are ahead of it; the first record read again tells."""
    store.end[USERS] = 10
    store.commit("g", {USERS: 10})
    worker = started(store, now)
    worker.read(USERS, 4)
    assert not worker.is_fresh()
    worker.read(USERS, *range(5, 10))
    now[0] += SETTLED
    assert worker.is_fresh()


def test_what_nobody_reads_is_given_up(store: Store, now: list[float]) -> None:
    """After a limit, and only the rest that was there: a new user is waited for again."""
    store.end[USERS] = 5
    worker = started(store, now)
    assert not worker.is_fresh()
    now[0] += UNCLAIMED_SECONDS
    assert worker.is_fresh()
    store.end[USERS] = 6
    assert not worker.is_fresh()


def test_rests_that_nobody_reads_are_given_up_together(store: Store, now: list[float]) -> None:
    """Not one limit after the other: a restart would take as long as there are partitions."""
    store.end.update({USERS: 5, ITEMS: 5})
    worker = started(store, now)
    assert not worker.is_fresh()
    now[0] += UNCLAIMED_SECONDS
    assert worker.is_fresh()


def test_last_offsets_that_are_no_records_stop_nothing(store: Store, now: list[float]) -> None:
    """A transaction's marker takes an offset and is never read."""
    store.end[USERS] = 3
    worker = started(store, now)
    worker.read(USERS, 0, 1)
    now[0] += SETTLED
    assert not worker.is_fresh()
    now[0] += STUCK_SECONDS
    assert not worker.is_fresh()
    now[0] += STUCK_SECONDS
    assert worker.is_fresh()


def test_updates_without_a_pause_hold_no_event_longer_than_they_settle(
    store: Store, now: list[float]
) -> None:
    """There is always one that has not settled; an event waits for those before it only."""
    worker = started(store, now)
    for offset in range(100):
        store.end[USERS] = offset + 1
        worker.read(USERS, offset)
        now[0] += SETTLE_SECONDS / 10
        worker.ask()
    assert worker.freshness.fresh_until_ms >= (now[0] - 2.5 * SETTLE_SECONDS) * 1000


def test_when_nothing_moves_one_waiting_event_is_let_pass(store: Store, now: list[float]) -> None:
    """It holds up a checkpoint's barrier; the events behind it go on waiting."""
    store.end[USERS] = 3
    worker = started(store, now)
    worker.read(USERS, 0)
    now[0] += SETTLED
    worker.ask()
    passed: list[int] = []
    published_ms = int(now[0] * 1000)

    def wait_twice() -> None:
        for number in (1, 2):
            worker.freshness.wait_for(published_ms)
            passed.append(number)

    thread = threading.Thread(target=wait_twice)
    thread.start()
    wait_until(lambda: worker.freshness.someone_waits)
    now[0] += STUCK_SECONDS
    worker.ask()
    wait_until(lambda: passed == [1] and worker.freshness.someone_waits)
    worker.read(USERS, 1, 2)
    now[0] += SETTLED
    worker.ask()
    thread.join(10)
    assert passed == [1, 2]


def test_a_steady_flow_of_updates_settles_bit_by_bit(now: list[float]) -> None:
    """What is older than the settling time counts, although newer ones keep coming."""
    reading = Reading(SETTLING)
    for offset in range(100):
        reading.decoded(USERS, offset, now[0])
        now[0] += SETTLE_SECONDS / 10
        assert reading.claims(now[0])[USERS] <= offset + 1
        assert reading.claims(now[0])[USERS] >= offset - 22
    settled = reading.claims(now[0])[USERS]
    assert settled < 100
    assert reading.claims(now[0] + SETTLE_SECONDS)[USERS] == 100


def test_a_backlog_settles_as_fast_as_the_joins_take_it_in(now: list[float]) -> None:
    """Read in a moment, it is queued before them; its time is in proportion, and has an end."""
    for records, seconds in ((5_000, 1.0), (100_000, LONGEST_QUEUE_SECONDS)):
        reading = Reading(SETTLING)
        for offset in range(records):
            reading.decoded(USERS, offset, now[0])
        settled_at = now[0] + SETTLE_SECONDS + seconds
        assert reading.claims(settled_at - 0.05)[USERS] < records
        assert reading.claims(settled_at + 0.05)[USERS] == records


def test_updates_slower_than_the_joins_are_never_queued(now: list[float]) -> None:
    """However long they keep coming, the newest settles in the usual time."""
    reading = Reading(SETTLING)
    for offset in range(10_000):
        reading.decoded(USERS, offset, now[0])
        now[0] += 1.01 / JOIN_RECORDS_PER_SECOND
    assert reading.claims(now[0] + SETTLED)[USERS] == 10_000


def test_a_starting_function_is_given_more_time_to_settle(now: list[float]) -> None:
    """Until it is warm; and nothing settles before what was decoded earlier."""
    reading = Reading(Settling(cold=5.0, warm=SETTLE_SECONDS))
    reading.decoded(USERS, 0, now[0])
    assert reading.claims(now[0] + 4.9)[USERS] == 0
    assert reading.claims(now[0] + 5.1)[USERS] == 1
    now[0] += COLD_SECONDS - 1.0
    reading.decoded(USERS, 1, now[0])
    now[0] += 2.0
    reading.decoded(USERS, 2, now[0])
    assert reading.claims(now[0] + 2.9)[USERS] == 1
    assert reading.claims(now[0] + 3.1)[USERS] == 3
    now[0] += 10.0
    reading.decoded(USERS, 3, now[0])
    assert reading.claims(now[0] + SETTLED)[USERS] == 4


def test_a_waiting_event_is_let_go_when_the_worker_closes(store: Store, now: list[float]) -> None:
    """By an exception: it must not pass, it is read again after the restart."""
    store.end[USERS] = 1
    worker = started(store, now)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            worker.freshness.wait_for(int(now[0] * 1000) + 1000)
        except WorkerClosing as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    # Until it waits, forgetting would not be noticed; it is a matter of microseconds.
    wait_until(lambda: worker.freshness.someone_waits)
    worker.freshness.forget(worker.reading)
    thread.join(10)
    assert raised


def test_on_a_busy_machine_records_settle_later(store: Store, now: list[float]) -> None:
    """Questions that come late say so, for a while; at ease nothing is added."""
    worker = started(store, now)

    def settles_after(partition: Partition, offset: int) -> float:
        worker.read(partition, offset)
        begun = now[0]
        while worker.reading.claims(now[0])[partition] <= offset:
            now[0] += 0.01
            assert now[0] < begun + 10
        return now[0] - begun

    worker.freshness.ask()
    now[0] += INTERVAL_SECONDS + EASY_SECONDS
    worker.freshness.ask()
    assert settles_after(USERS, 0) == pytest.approx(SETTLE_SECONDS, abs=0.02)
    worker.freshness.rested()
    worker.freshness.ask()
    now[0] += INTERVAL_SECONDS + EASY_SECONDS + 0.5
    worker.freshness.ask()
    late = SETTLE_SECONDS + 0.5 * STRAIN
    assert settles_after(USERS, 1) == pytest.approx(late, abs=0.02)
    joined = Reading(SETTLING)
    worker.freshness.follow(joined)
    assert joined.strain == pytest.approx(0.5 * STRAIN)
    for _ in range(int(STRAINED_SECONDS / INTERVAL_SECONDS) + 2):
        now[0] += INTERVAL_SECONDS
        worker.freshness.ask()
    assert settles_after(USERS, 2) == pytest.approx(SETTLE_SECONDS, abs=0.02)
