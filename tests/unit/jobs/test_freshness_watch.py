"""An event passes when every user and item published before it has been read, and not before."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from jobs.freshness.clock import MEASURE_SECONDS, WorkerClock
from jobs.freshness.gaps import UNMOVED_SECONDS
from jobs.freshness.settling import (
    MAX_OVERLOAD_SECONDS,
    DimensionReader,
    SettlingModel,
    SettlingTimes,
)
from jobs.freshness.stalls import STALLED_SECONDS, UNSTARTED_SECONDS
from jobs.freshness.watch import (
    PARTITIONS_SECONDS,
    POLL_INTERVAL_SECONDS,
    RECREATED_SECONDS,
    Freshness,
    Watch,
    WorkerClosing,
    reset_committed_offsets,
)
from jobs.freshness.watermark import CLOCK_SKEW_MS
from tests.support.waiting import wait_until

SETTLE_SECONDS = 0.15
SETTLED = SETTLE_SECONDS * 1.01
USERS, ITEMS, EVENTS = ("users", 0), ("songs", 0), ("interactions", 0)


class Store:
    """Kafka's offsets in memory, shared by the workers of a test."""

    def __init__(self) -> None:
        self.end = {USERS: 0, ITEMS: 0, EVENTS: 0}
        self.markers: dict[Partition, set[int]] = {USERS: set(), ITEMS: set()}
        self.probes = 0
        self.groups: dict[str, dict[Partition, int]] = {}

    def partitions(self, topics: Iterable[str]) -> tuple[Partition, ...]:
        wanted = set(topics)
        return tuple(partition for partition in self.end if partition[0] in wanted)

    def ends(self, partitions: Iterable[Partition]) -> Offsets:
        return {partition: self.end[partition] for partition in partitions}

    def log_ends(self, partitions: Iterable[Partition]) -> Offsets:
        return self.ends(partitions)

    def first_records(self, positions: Offsets) -> Offsets:
        self.probes += 1
        return {
            p: min(
                {*range(position, self.end[p])} - self.markers.get(p, set()), default=self.end[p]
            )
            for p, position in positions.items()
        }

    def committed(self, group: str, partitions: Iterable[Partition]) -> Offsets:
        return {p: self.groups.get(group, {}).get(p, 0) for p in partitions}

    def commit(self, group: str, offsets: Offsets) -> None:
        self.groups.setdefault(group, {}).update(offsets)

    def add_read(self, offsets: Offsets) -> None:
        """Add records that the source's group has read and committed."""
        self.end.update(offsets)
        self.commit("g", offsets)


class Worker:
    """A worker with one function of users and items, on clocks that the test moves.

    Its wall clock is ahead of the broker's by ``ahead_ms``.
    """

    def __init__(self, store: Store, now: list[float], ahead_ms: int = 0) -> None:
        self.now = now
        self.freshness = Freshness(
            store,
            ("users", "songs"),
            group="g-freshness",
            source_group="g",
            event_topics=("interactions",),
            monotonic=lambda: now[0],
            wall_ms=lambda: int(now[0] * 1000) + ahead_ms,
        )
        self.reader = DimensionReader(
            SettlingModel(SettlingTimes(cold=SETTLE_SECONDS, warm=SETTLE_SECONDS))
        )
        self.freshness.add_reader(self.reader)

    def read(self, partition: Partition, *offsets: int) -> None:
        for offset in offsets:
            self.reader.add_decoded(partition, offset, self.now[0])

    def poll(self, after: float = 0.0) -> None:
        """A poll in time, however far the test has moved the clock."""
        self.now[0] += after
        self.freshness.pause()
        self.freshness.poll()

    def is_fresh(self, after: float = 0.0) -> bool:
        """Whether an event published after some seconds passes with a poll a moment later."""
        self.now[0] += after
        published_ms = int(self.now[0] * 1000)
        self.now[0] += (CLOCK_SKEW_MS + 1) / 1000
        self.poll()
        return self.freshness.watermark.until_ms >= published_ms


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


def started(
    store: Store, now: list[float], restored: Offsets | None = None, end: Offsets | None = None
) -> Worker:
    """A worker that has opened; ``restored``: what it sees of its restored state."""
    store.end.update(end or {})
    worker = Worker(store, now)
    worker.freshness.exact = restored is not None
    worker.reader.add_restored(restored or {})
    worker.freshness.begin_attempt()
    return worker


def test_with_empty_topics_events_pass_at_once(store: Store, now: list[float]) -> None:
    """There is nothing to wait for."""
    assert started(store, now).is_fresh()


def test_an_event_waits_for_the_backlog(store: Store, now: list[float]) -> None:
    """And passes when the last user of it has settled in the join's state."""
    worker = started(store, now, end={USERS: 3})
    assert not worker.is_fresh()
    worker.read(USERS, 0, 1)
    assert not worker.is_fresh(after=SETTLED)
    worker.read(USERS, 2)
    assert not worker.is_fresh()
    assert worker.is_fresh(after=SETTLED)


def test_another_workers_backlog_is_waited_for(store: Store, now: list[float]) -> None:
    """However late that worker starts: no worker has committed that it was read."""
    early = started(store, now, end={ITEMS: 2})
    assert not early.is_fresh(after=UNSTARTED_SECONDS / 2)
    late = started(store, now)
    assert not early.is_fresh()
    late.read(ITEMS, 0, 1)
    late.poll(after=SETTLED)
    assert early.is_fresh()


def test_a_live_update_holds_the_event_behind_it(store: Store, now: list[float]) -> None:
    """In the middle of the stream, too, and only until it is read."""
    worker = started(store, now)
    assert worker.is_fresh()
    store.end[USERS] = 1
    assert not worker.is_fresh()
    worker.read(USERS, 0)
    assert worker.is_fresh(after=SETTLED)


def test_positions_of_an_earlier_attempt_do_not_count(store: Store, now: list[float]) -> None:
    """After a restart from a checkpoint the rest is read again, and waited for."""
    before = started(store, now, end={USERS: 10})
    before.read(USERS, *range(10))
    assert before.is_fresh(after=SETTLED)
    store.commit("g", {USERS: 6})
    after = started(store, now)
    assert not after.is_fresh()
    after.read(USERS, 6, 7, 8, 9)
    assert after.is_fresh(after=SETTLED)


def test_a_restored_job_with_nothing_to_read_does_not_wait(store: Store, now: list[float]) -> None:
    """Flink resumes at what it has committed."""
    store.add_read({USERS: 10, ITEMS: 5})
    assert started(store, now).is_fresh()


def test_restored_state_says_how_far_it_has_read(store: Store, now: list[float]) -> None:
    """Whatever the group has committed: Flink's last commit before a stop may be missing."""
    worker = started(store, now, restored={USERS: 10, ITEMS: 5}, end={USERS: 10, ITEMS: 5})
    assert worker.is_fresh()
    store.end[USERS] = 11
    assert not worker.is_fresh()
    worker.read(USERS, 10)
    assert worker.is_fresh(after=SETTLED)


def test_an_old_snapshot_is_not_taken_for_what_its_group_has_read_since(
    store: Store, now: list[float]
) -> None:
    """A snapshot of an hour ago: what has come since is read again before the first event."""
    store.add_read({USERS: 10, ITEMS: 5})
    interactions = started(store, now, {})
    assert not interactions.is_fresh()
    worker = started(store, now, {USERS: 4, ITEMS: 5})
    assert not worker.is_fresh()
    worker.read(USERS, *range(4, 10))
    assert worker.is_fresh(after=SETTLED)
    assert interactions.is_fresh()


def test_a_new_application_waits_whatever_its_group_has_committed(
    store: Store, now: list[float]
) -> None:
    """Submitted again without a savepoint it has no state, though its group read all of it once."""
    store.add_read({USERS: 10, ITEMS: 5})
    reset_committed_offsets(store, ("users", "songs"), "g")
    assert not started(store, now).is_fresh()


def test_a_checkpoint_tells_where_a_restored_job_resumes(store: Store, now: list[float]) -> None:
    """Also when the group's offsets were discarded at the submission."""
    worker = started(store, now, end={USERS: 10, ITEMS: 5})
    assert not worker.is_fresh()
    store.commit("g", {USERS: 10, ITEMS: 5})
    worker.is_fresh()
    assert worker.is_fresh()


def test_a_worker_commits_again_what_another_has_reset(store: Store, now: list[float]) -> None:
    """A worker that opens late resets the positions of all; the others commit theirs again."""
    first = started(store, now, end={USERS: 1})
    first.read(USERS, 0)
    assert first.is_fresh(after=SETTLED)
    second = started(store, now)
    first.poll()
    assert second.is_fresh()


def test_an_earlier_savepoint_is_read_from_where_it_is(store: Store, now: list[float]) -> None:
    """Flink's committed offsets are ahead of it; the first record read again tells."""
    store.end[USERS] = 10
    store.commit("g", {USERS: 10})
    worker = started(store, now)
    worker.read(USERS, 4)
    assert not worker.is_fresh()
    worker.read(USERS, *range(5, 10))
    assert worker.is_fresh(after=SETTLED)


def test_markers_of_transactions_are_not_waited_for(store: Store, now: list[float]) -> None:
    """Behind each record of a topic; nothing is given up, and a record is still waited for."""
    worker = started(store, now)
    for offset in (0, 2, 4):
        store.end[USERS] = offset + 2
        store.markers[USERS].add(offset + 1)
        worker.poll()
        assert not worker.is_fresh(after=UNMOVED_SECONDS)
        worker.read(USERS, offset)
        worker.poll(after=SETTLED)
        assert worker.is_fresh(after=UNMOVED_SECONDS)
    assert worker.freshness.given_up == 0


def test_a_topic_of_markers_alone_is_not_waited_for(store: Store, now: list[float]) -> None:
    """Nobody begins to read what has no record: an aborted transaction, an expired topic."""
    store.end[USERS], store.markers[USERS] = 3, {0, 1, 2}
    worker = started(store, now)
    worker.poll()
    assert worker.is_fresh(after=UNMOVED_SECONDS)
    assert worker.freshness.given_up == 0


def test_a_partition_added_while_the_job_runs_is_waited_for(store: Store, now: list[float]) -> None:
    """Within PARTITIONS_SECONDS, whoever reads it."""
    worker = started(store, now)
    added = ("users", 1)
    store.end[added] = 1
    assert not worker.is_fresh(after=PARTITIONS_SECONDS)
    worker.read(added, 0)
    assert worker.is_fresh(after=SETTLED)


def test_records_of_a_topic_created_anew_are_waited_for(store: Store, now: list[float]) -> None:
    """Its offsets begin again, below what has been read of the former one."""
    worker = started(store, now, end={USERS: 5})
    worker.read(USERS, *range(5))
    assert worker.is_fresh(after=SETTLED)
    assert worker.is_fresh(after=SETTLED)
    store.end[USERS] = 2
    worker.poll()
    assert not worker.is_fresh(after=RECREATED_SECONDS)
    worker.read(USERS, 0)
    assert not worker.is_fresh(after=SETTLED)
    worker.read(USERS, 1)
    worker.poll(after=2 * SETTLED)
    assert worker.is_fresh(after=2 * SETTLED)


def test_kafka_is_asked_once_for_a_position(store: Store, now: list[float]) -> None:
    """However long a record is not read: a probe costs a fetch."""
    worker = started(store, now, end={USERS: 1})
    for _ in range(50):
        worker.poll()
        now[0] += UNMOVED_SECONDS
    assert store.probes == 1


def test_what_nobody_reads_is_given_up(store: Store, now: list[float]) -> None:
    """After a limit, and only the rest that was there: a new user is waited for again."""
    worker = started(store, now, end={USERS: 5})
    assert not worker.is_fresh()
    assert worker.is_fresh(after=UNSTARTED_SECONDS)
    store.end[USERS] = 6
    assert not worker.is_fresh()


def test_rests_that_nobody_reads_are_given_up_together(store: Store, now: list[float]) -> None:
    """Not one limit after the other: a restart would take as long as there are partitions."""
    worker = started(store, now, end={USERS: 5, ITEMS: 5})
    assert not worker.is_fresh()
    assert worker.is_fresh(after=UNSTARTED_SECONDS)


def test_last_offsets_that_are_no_records_stop_nothing(store: Store, now: list[float]) -> None:
    """A transaction's marker takes an offset and is never read."""
    worker = started(store, now, end={USERS: 3})
    worker.read(USERS, 0, 1)
    assert not worker.is_fresh(after=SETTLED)
    assert not worker.is_fresh(after=STALLED_SECONDS)
    assert worker.is_fresh(after=STALLED_SECONDS)


def test_updates_without_a_pause_hold_no_event_longer_than_they_settle(
    store: Store, now: list[float]
) -> None:
    """There is always one that has not settled; an event waits for those before it only."""
    worker = started(store, now)
    for offset in range(100):
        store.end[USERS] = offset + 1
        worker.read(USERS, offset)
        worker.poll(after=SETTLE_SECONDS / 10)
    assert worker.freshness.watermark.until_ms >= (now[0] - 2.5 * SETTLE_SECONDS) * 1000


def test_when_nothing_moves_one_waiting_event_is_released(store: Store, now: list[float]) -> None:
    """It holds up a checkpoint's barrier; the events behind it are still held."""
    worker = started(store, now, end={USERS: 3})
    worker.read(USERS, 0)
    worker.poll(after=SETTLED)
    published_ms = int(now[0] * 1000)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(worker.freshness.wait_for, published_ms)
        wait_until(lambda: worker.freshness.is_holding)
        worker.poll(after=STALLED_SECONDS)
        is_by_timeout = first.result(10)
        assert is_by_timeout
        second = pool.submit(worker.freshness.wait_for, published_ms)
        wait_until(lambda: worker.freshness.is_holding)
        worker.read(USERS, 1, 2)
        worker.poll(after=SETTLED)
        is_by_timeout = second.result(10)
        assert not is_by_timeout


def test_an_event_that_passes_because_a_rest_is_given_up_says_so(
    store: Store, now: list[float]
) -> None:
    """It was not read: the user may be missing."""
    worker = started(store, now, end={USERS: 5})
    worker.poll()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(worker.freshness.wait_for, int(now[0] * 1000))
        wait_until(lambda: worker.freshness.is_holding)
        worker.poll(after=UNSTARTED_SECONDS)
        is_by_timeout = waiting.result(10)
    assert is_by_timeout
    assert worker.freshness.given_up == 1


def test_a_waiting_event_ends_when_the_worker_closes(store: Store, now: list[float]) -> None:
    """By an exception: it must not pass, it is read again after the restart."""
    worker = started(store, now, end={USERS: 1})
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(worker.freshness.wait_for, int(now[0] * 1000) + 1000)
        # Until it waits, a closing would not be noticed.
        wait_until(lambda: worker.freshness.is_holding)
        worker.freshness.remove_reader(worker.reader)
        with pytest.raises(WorkerClosing):
            waiting.result(10)


def test_late_polls_make_records_settle_later(store: Store, now: list[float]) -> None:
    """For every reader of the worker, also one that is added later."""
    worker = started(store, now)
    worker.freshness.poll()
    now[0] += POLL_INTERVAL_SECONDS + 10.0
    worker.freshness.poll()
    added = DimensionReader(SettlingModel(SettlingTimes(cold=0.0, warm=0.0)))
    worker.freshness.add_reader(added)
    overloads = {reader.model.overload_seconds for reader in (worker.reader, added)}
    assert overloads == {MAX_OVERLOAD_SECONDS}


class Function:
    """A decode function, as far as the watch knows it."""


def test_freshness_is_exact_while_every_open_function_sees_its_restored_state(
    store: Store, now: list[float]
) -> None:
    """One that does not makes it an estimate, until it has closed and the job opens again."""
    watch = Watch(Worker(store, now).freshness)
    seeing, blind, reopened = Function(), Function(), Function()
    watch.add(seeing, exact=True)
    assert watch.freshness.exact
    watch.add(blind, exact=False)
    assert not watch.freshness.exact
    watch.add(reopened, exact=True)
    assert not watch.freshness.exact
    watch.remove(blind)
    watch.add(reopened, exact=True)
    assert watch.freshness.exact
    for function in (seeing, reopened):
        watch.remove(function)


class Unavailable(Store):
    """A Kafka that does not answer the first polls."""

    failures = 1

    def ends(self, partitions: Iterable[Partition]) -> Offsets:
        if self.failures:
            self.failures -= 1
            raise OffsetsUnavailable("no broker")
        return super().ends(partitions)


def test_a_watch_is_closed_after_its_last_poll(now: list[float]) -> None:
    """Not while the thread reads with what is closed then."""
    closed: list[int] = []
    threads = threading.active_count()
    watch = Watch(
        Worker(Unavailable(), now).freshness, lambda: closed.append(threading.active_count())
    )
    watch.close()
    function = Function()
    watch.add(function, exact=True)
    watch.remove(function)
    watch.close()
    assert closed == [threads, threads]


def test_events_wait_while_kafka_does_not_answer(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and the thread polls on."""
    watch, function = Watch(Worker(Unavailable(), now).freshness), Function()
    watch.add(function, exact=True)
    watch.freshness.wait_for(int(now[0] * 1000) - CLOCK_SKEW_MS)
    watch.remove(function)
    assert [record.getMessage() for record in caplog.records] == [
        "events wait until Kafka's offsets can be read: no broker"
    ]


@pytest.mark.parametrize("ahead_ms", [1_000, -1_000])
def test_a_clock_that_is_apart_is_measured_shown_and_taken_into_account(
    store: Store, now: list[float], ahead_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that was published after the last poll waits for the next one, once an event between
    two polls has shown the difference."""
    worker = Worker(store, now, ahead_ms)
    worker.freshness.begin_attempt()
    worker.poll()
    for _ in range(2):
        store.end[EVENTS] += 1
        event = (EVENTS, store.end[EVENTS] - 1, int(now[0] * 1000) + 3)
        now[0] += 0.005
        worker.freshness.published_ms(*event)
        worker.poll(after=MEASURE_SECONDS)
    skew_ms = worker.freshness.clock.skew_ms
    assert abs(ahead_ms) - 5 <= abs(skew_ms) <= abs(ahead_ms)
    assert skew_ms * ahead_ms > 0
    (message,) = [record.getMessage() for record in caplog.records]
    assert ("ahead of" if ahead_ms > 0 else "behind") in message

    # Published 300 ms after the last poll, by the broker's clock.
    published_ms = worker.freshness.published_ms(EVENTS, 9, int(now[0] * 1000) + 300)
    assert published_ms > worker.freshness.watermark.until_ms


def test_an_open_transaction_does_not_count_as_a_clock_that_is_ahead() -> None:
    """The ends are those of the log: a record of it was appended before."""
    clock = WorkerClock()
    clock.add_ends(10_000, {EVENTS: 5}, now=1.0)
    clock.add_event(EVENTS, 4, 9_000, arrived_ms=10_010)
    clock.add_event(("another", 0), 9, 9_000, arrived_ms=10_010)
    clock.add_ends(11_000, {EVENTS: 5}, now=2.0)
    assert (clock.skew_ms, clock.ahead_ms) == (0, 0)


def test_a_clock_that_was_corrected_is_noticed_within_two_windows() -> None:
    """The worker's clock is ahead by 500 ms, and then right."""
    clock = WorkerClock()
    for second, ahead_ms in ((0, 500), (1, 500), (61, 0), (121, 0), (122, 0)):
        asked_ms = 1000 * second + ahead_ms
        clock.add_ends(asked_ms, {EVENTS: second}, now=float(second))
        clock.add_event(EVENTS, second, 1000 * second, arrived_ms=asked_ms + 5)
        if second == 1:
            assert clock.skew_ms == 500
    assert clock.skew_ms == 0
