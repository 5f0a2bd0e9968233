"""The watermark never passes a record that has not been read, and passes every one that has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.offsets import Offsets, Partition
from jobs.freshness.watermark import (
    CLOCK_SKEW_MS,
    MAX_PENDING_POLLS,
    FreshnessWatermark,
    read_positions,
    started_partitions,
)

USERS, ITEMS = ("users", 0), ("songs", 0)
PARTITIONS = (USERS, ("users", 1), ITEMS)

Step = tuple[str, Partition]
STEPS = st.lists(
    st.tuples(st.sampled_from(["publish", "read", "poll"]), st.sampled_from(PARTITIONS))
)


class History:
    """Records published and read at a millisecond each, and the watermark that results."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.published: dict[Partition, list[int]] = {p: [] for p in PARTITIONS}
        self.read = dict.fromkeys(PARTITIONS, 0)
        self.watermark = FreshnessWatermark()

    def take(self, step: Step) -> None:
        self.now_ms += 1
        action, partition = step
        if action == "publish":
            self.published[partition].append(self.now_ms)
        elif action == "read":
            self.read[partition] = min(self.read[partition] + 1, len(self.published[partition]))
        else:
            self.poll()

    def poll(self) -> None:
        self.watermark.add_poll(self.now_ms, {p: len(at) for p, at in self.published.items()})
        self.watermark.advance(self.read)

    def unread_since_ms(self) -> int | None:
        """When the first unread record was published."""
        return min(
            (at[self.read[p]] for p, at in self.published.items() if at[self.read[p] :]),
            default=None,
        )


@given(STEPS)
def test_everything_published_before_the_watermark_has_been_read(steps: list[Step]) -> None:
    """At any time, in any order of publications, reads and polls."""
    history = History()
    for step in steps:
        history.take(step)
        unread_since = history.unread_since_ms()
        assert unread_since is None or history.watermark.until_ms + CLOCK_SKEW_MS < unread_since


@given(STEPS)
def test_the_watermark_only_moves_forward(steps: list[Step]) -> None:
    """An event that has passed stays passed."""
    history, before = History(), 0
    for step in steps:
        history.take(step)
        assert history.watermark.until_ms >= before
        before = history.watermark.until_ms


@given(STEPS)
def test_when_all_has_been_read_the_watermark_is_at_the_last_poll(steps: list[Step]) -> None:
    """No event waits for what has been read."""
    history = History()
    for step in steps:
        history.take(step)
    history.read = {p: len(at) for p, at in history.published.items()}
    history.poll()
    assert history.watermark.until_ms == history.now_ms - CLOCK_SKEW_MS


def test_of_more_polls_than_are_kept_the_last_one_counts() -> None:
    """The first ones still pass in their order, and memory is bounded."""
    watermark = FreshnessWatermark()
    for number in range(MAX_PENDING_POLLS + 10):
        watermark.add_poll(1_000 + number, {USERS: number + 1})
    watermark.advance({USERS: 3})
    assert watermark.until_ms == 1_002 - CLOCK_SKEW_MS
    watermark.advance({USERS: MAX_PENDING_POLLS + 9})
    assert watermark.until_ms == 1_000 + MAX_PENDING_POLLS - 2 - CLOCK_SKEW_MS
    watermark.advance({USERS: MAX_PENDING_POLLS + 10})
    assert watermark.until_ms == 1_000 + MAX_PENDING_POLLS + 9 - CLOCK_SKEW_MS


def test_a_reset_watermark_has_passed_nothing() -> None:
    """A restarted job reads again; polls of the earlier attempt do not count."""
    watermark = FreshnessWatermark()
    watermark.add_poll(1_000, {USERS: 0})
    watermark.add_poll(2_000, {USERS: 5})
    watermark.advance({USERS: 0})
    watermark.reset()
    watermark.advance({USERS: 5})
    assert watermark.until_ms == 0


OFFSETS = st.dictionaries(st.sampled_from(PARTITIONS), st.integers(0, 9))


@given(OFFSETS, OFFSETS, OFFSETS)
def test_restored_offsets_count_only_where_nobody_has_begun_to_read(
    shared: Offsets, own: Offsets, restored: Offsets
) -> None:
    """What Flink has committed may be ahead of where a job resumes; a reader knows better."""
    started = started_partitions(shared, own)
    positions = read_positions(PARTITIONS, started, shared, restored)
    for partition in PARTITIONS:
        is_read = shared.get(partition, 0) > 0 or partition in own
        assert (partition in started) is is_read
        assert positions[partition] == (shared if is_read else restored).get(partition, 0)
