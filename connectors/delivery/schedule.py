"""Which entries go next: order per key, batches by count and bytes, fair turns.

Not part of the public surface. Pure data: no clock, no asyncio.

    lane    the waiting entries of one order key, oldest first. While a call carries entries of a
            lane, or the lane waits to retry one, the lane is *held*: nothing of it is sent, so that
            nothing overtakes. Where entries replace each other: newest version first, and a call
            carries one of them; those behind it are superseded, or sent next if it is rejected.
    group   the lanes whose next entry has the same batch key: what may share a call.

Groups take turns, and so do the lanes within a group: the one that was served moves to the end.
Hence no lane starves, and a lane with thousands of entries delays another by one call.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from connectors.delivery.destination import Limits, Version

EntryT = TypeVar("EntryT")
OwnerT = TypeVar("OwnerT")

Rank: TypeAlias = tuple[Version, int]
"""Made of version and number of arrival, both negated: the newest is the least, none are equal."""


@dataclass(slots=True, eq=False)
class Item(Generic[EntryT, OwnerT]):
    """An entry on its way; `owner` and `index` are its caller and its position there."""

    entry: EntryT
    size: int
    batch_key: Hashable
    owner: OwnerT
    index: int
    rank: Rank | None = None
    """None where entries do not replace each other."""
    attempts: int = 0
    portion: object | None = None
    """Entries of a bisected batch share a call only with their half."""
    lane: Lane[EntryT, OwnerT] = field(init=False)


class Lane(Generic[EntryT, OwnerT]):
    """Waiting items of one order key; `key` is None for items without an order, which never wait
    for each other."""

    __slots__ = ("held", "items", "key")

    def __init__(self, key: Hashable | None) -> None:
        self.key = key
        self.items: deque[Item[EntryT, OwnerT]] = deque()
        self.held = False

    def insert(self, item: Item[EntryT, OwnerT]) -> None:
        """Insert a new item by rank, newest first, or else last."""
        if item.rank is None:
            self.items.append(item)
        else:
            insort(self.items, item, key=_rank)


def rank(version: Version, arrival: int) -> Rank:
    """The rank of the `arrival`-th entry."""
    return tuple(-part for part in version), -arrival


def _rank(item: Item[EntryT, OwnerT]) -> Rank:
    assert item.rank is not None  # a lane's items all have one, or none has
    return item.rank


class _Group(Generic[EntryT, OwnerT]):
    __slots__ = ("key", "lanes")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.lanes: deque[Lane[EntryT, OwnerT]] = deque()


class Schedule(Generic[EntryT, OwnerT]):
    """All that waits for one destination."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lanes: dict[Hashable, Lane[EntryT, OwnerT]] = {}
        self._unordered: dict[Hashable, Lane[EntryT, OwnerT]] = {}
        self._groups: dict[Hashable, _Group[EntryT, OwnerT]] = {}
        self._turns: deque[_Group[EntryT, OwnerT]] = deque()
        self.waiting = 0

    @property
    def is_ready(self) -> bool:
        """Whether something can be sent now."""
        return bool(self._turns)

    @property
    def kept(self) -> int:
        """Lanes and groups kept at present: those with an item waiting or under way."""
        return len(self._lanes) + len(self._unordered) + len(self._groups)

    def add(self, item: Item[EntryT, OwnerT], order_key: Hashable | None) -> None:
        """Add an item behind those of its order key."""
        lanes, key = (
            (self._unordered, item.batch_key) if order_key is None else (self._lanes, order_key)
        )
        lane = lanes.get(key)
        if lane is None:
            lane = lanes[key] = Lane(order_key)
        item.lane = lane
        before = lane.items[0] if lane.items else None
        lane.insert(item)
        self.waiting += 1
        if lane.held:
            return
        if before is None:
            self._enqueue(lane)
        elif lane.items[0].batch_key != before.batch_key:
            self._dequeue(lane, before.batch_key)
            self._enqueue(lane)

    @property
    def next_size(self) -> int:
        """Bytes of the entry that the next batch begins with. Only when `is_ready`."""
        return self._turns[0].lanes[0].items[0].size

    def take(self, room: int | None = None) -> list[Item[EntryT, OwnerT]]:
        """Take the next batch: one batch key, within the limits; its lanes are held till `release`.

        `room`: bytes, where less than a call's limit is left; the first entry is taken in any case.
        Only to be called when `is_ready`.
        """
        max_bytes = self._limits.max_bytes
        if room is not None:
            max_bytes = min(max_bytes, max(room, self.next_size))
        group = self._turns.popleft()
        batch = self._fill(group, max_bytes)
        if group.lanes:
            self._turns.append(group)
        else:
            del self._groups[group.key]
        self.waiting -= len(batch)
        return batch

    def put_back(
        self, items: Sequence[Item[EntryT, OwnerT]], *, held: bool
    ) -> list[Lane[EntryT, OwnerT]]:
        """Return items of a batch to the front of their lanes, in their order (or by rank).

        The lanes stay held; the caller releases them. Items without an order get a lane of their
        own, so that no other item waits for them: held if `held`, else ready at once. Returns the
        lanes of the items.
        """
        self.waiting += len(items)
        lanes: dict[Lane[EntryT, OwnerT], None] = {}
        unordered: Lane[EntryT, OwnerT] | None = None
        for item in reversed(items):
            if item.lane.key is None:
                if unordered is None:
                    unordered = Lane(None)
                    unordered.held = True
                item.lane = unordered
            if item.rank is None:
                item.lane.items.appendleft(item)
            else:
                item.lane.insert(item)
            lanes[item.lane] = None
        if unordered is not None and not held:
            del lanes[unordered]
            self.release((unordered,))
        return list(reversed(lanes))

    def release(self, lanes: Iterable[Lane[EntryT, OwnerT]]) -> None:
        """Make the next entries of lanes ready: those under way have their outcome."""
        for lane in lanes:
            lane.held = False
            if lane.items:
                self._enqueue(lane)
            elif lane.key is not None:
                del self._lanes[lane.key]

    def take_superseded(self, item: Item[EntryT, OwnerT]) -> list[Item[EntryT, OwnerT]]:
        """Take the waiting items of an accepted item's lane that it outranks."""
        items = item.lane.items
        older: list[Item[EntryT, OwnerT]] = []
        if item.rank is not None:
            while items and _rank(items[-1]) > item.rank:
                older.append(items.pop())
            self.waiting -= len(older)
        return older

    def drop(self, dead: Callable[[OwnerT], bool], apart: Iterable[Lane[EntryT, OwnerT]]) -> int:
        """Drop the waiting items of dead owners and return their number; `apart`: held lanes that
        the caller keeps (those that wait to retry)."""
        queued = [lane for group in self._turns for lane in group.lanes]
        lanes = dict.fromkeys([*queued, *self._lanes.values(), *apart])
        before = self.waiting
        for lane in lanes:
            kept = [item for item in lane.items if not dead(item.owner)]
            self.waiting -= len(lane.items) - len(kept)
            lane.items = deque(kept)
        # Queued again, since a lane's next item may now belong to another group.
        self._groups.clear()
        self._turns.clear()
        self._unordered = {key: lane for key, lane in self._unordered.items() if lane.items}
        for lane in queued:
            if lane.items:
                self._enqueue(lane)
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.items or lane.held}
        return before - self.waiting

    def _enqueue(self, lane: Lane[EntryT, OwnerT]) -> None:
        key = lane.items[0].batch_key
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key)
            self._turns.append(group)
        group.lanes.append(lane)

    def _dequeue(self, lane: Lane[EntryT, OwnerT], batch_key: Hashable) -> None:
        group = self._groups[batch_key]
        group.lanes.remove(lane)
        if not group.lanes:
            del self._groups[batch_key]
            self._turns.remove(group)

    def _fill(self, group: _Group[EntryT, OwnerT], room: int) -> list[Item[EntryT, OwnerT]]:
        limits = self._limits
        batch: list[Item[EntryT, OwnerT]] = []
        portion = group.lanes[0].items[0].portion
        while group.lanes and len(batch) < limits.max_records:
            lane = group.lanes[0]
            items = lane.items
            alone = lane.key is not None and (limits.one_per_order_key or items[0].rank is not None)
            maximum = 1 if alone else limits.max_records
            taken = 0
            while items and taken < maximum and len(batch) < limits.max_records:
                item = items[0]
                if item.size > room or item.portion is not portion or item.batch_key != group.key:
                    break
                batch.append(items.popleft())
                room -= item.size
                taken += 1
            if taken == 0:
                break
            group.lanes.popleft()
            if lane.key is not None:
                lane.held = True
            elif items:
                group.lanes.append(lane)
            else:
                self._drop_unordered(group.key, lane)
        return batch

    def _drop_unordered(self, key: Hashable, lane: Lane[EntryT, OwnerT]) -> None:
        # Items that were put back wait in lanes of their own, which are not in _unordered.
        if self._unordered.get(key) is lane:
            del self._unordered[key]
