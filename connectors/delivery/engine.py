"""The engine: takes records and returns an outcome for each.

Its guarantees, whatever the destination does:

- Every record handed to `deliver()` is delivered, rejected or superseded when `deliver()` returns;
  if it raises, the records without an outcome count as not delivered and have to be delivered again
  (at least once).
- Records with the same order key are sent in the order of their arrival; a later one is sent in
  another call only after the earlier one has its outcome.
- No more calls under way than `Limits.max_in_flight`, and in any second no more started than the
  share of the quota, and no more bytes, over all concurrent `deliver()` calls together. Keys take
  turns, so none starves.
- Retries are unlimited: a record leaves as delivered or rejected, never after too many attempts.
- A call that is rejected as a whole is bisected: only the bad records are rejected.
- Where entries replace each other (`Replacing`), only the newest of the waiting entries of a key is
  sent, whichever caller brought it, and an older one never after a newer one has been accepted,
  also when it arrives later. When the newest is accepted, the older ones are superseded, not
  before: if it is rejected, or its caller gives up, the next newest takes its place, so that the
  destination ends up with the newest version that it accepts. Accepted versions are remembered for
  `remembered_versions` keys, in memory; beyond that, and across restarts, the caller
  orders the records. A call that timed out may still take effect later, as everywhere.

Records are sent as soon as the limits allow; the engine never waits for more records than a
`deliver()` brings: while it takes those in, only full calls start. The caller, who forms the
micro-batches, decides on the age of a batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import ceil
from random import Random
from typing import Generic, TypeVar, cast

from connectors.clock import SYSTEM_CLOCK, Clock
from connectors.delivery.backoff import full_jitter
from connectors.delivery.destination import Destination, Version
from connectors.delivery.metrics import DeliveryMetrics
from connectors.delivery.outcomes import (
    DELIVERED,
    SUPERSEDED,
    Delivered,
    DeliveryClosedError,
    Fatal,
    FatalDeliveryError,
    Outcome,
    Rejected,
    Retry,
    Settled,
)
from connectors.delivery.rate import A_SECOND, AdaptiveRate, Window
from connectors.delivery.schedule import Item, Lane, Schedule, rank
from connectors.delivery.settings import DeliverySettings
from connectors.delivery.versions import AcceptedVersions

RecordT = TypeVar("RecordT")
EntryT = TypeVar("EntryT")

_PACE = 0.005
"""Seconds between small groups of calls at the limit of the rate: a wake-up for each call costs
more than the call itself."""

_MIN_CALL_DIVISOR = 10
"""At the limit of the bytes a second, a call starts when it may have this part of them: calls as
small as what each millisecond leaves would cost more than they carry."""

_ADMITTED_AT_A_TIME = 32
"""Records taken in before other work on the event loop gets a turn: about a millisecond. Each
caller takes that long, and calls that were started wait meanwhile to be sent."""


class _Delivery:
    """One `deliver()` call."""

    __slots__ = ("done", "missing", "outcomes", "started")

    def __init__(self, records: int, started: float, done: asyncio.Future[None]) -> None:
        self.outcomes: list[Settled | None] = [None] * records
        self.missing = records
        self.started = started
        self.done = done

    def is_over(self) -> bool:
        return self.done.done()


class _Call(Generic[EntryT]):
    """One call to the destination."""

    __slots__ = ("is_sent", "items", "size", "started", "task", "timed_out")

    def __init__(self, items: list[Item[EntryT, _Delivery]], started: float) -> None:
        self.items = items
        self.size = 0
        """Bytes, where there is a quota of them."""
        self.started = started
        self.is_sent = False
        self.timed_out = False
        self.task: asyncio.Task[None]


class _Alarm:
    """Calls back once, at the earliest of the times that it was set to."""

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._due: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_set(self) -> bool:
        return self._due is not None

    def set(self, due: float) -> None:
        if self._due is not None and self._due <= due:
            return
        self.cancel()
        self._due = due
        self._task = asyncio.get_running_loop().create_task(self._wait(due))

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._due = None

    async def _wait(self, due: float) -> None:
        while (left := due - self._clock.monotonic()) > 0:
            await self._clock.pause(left)
        self._task = self._due = None
        self._callback()


class DeliveryEngine(Generic[RecordT, EntryT]):
    """Delivers records to one destination, for any number of concurrent callers.

    Belongs to one event loop and is not thread-safe: other threads deliver their records with
    `asyncio.run_coroutine_threadsafe(engine.deliver(records), loop)`. It may be created outside of
    the loop. After a `FatalDeliveryError` it can be used again, as a restarted job does once the
    cause is removed.
    """

    def __init__(
        self,
        destination: Destination[RecordT, EntryT],
        *,
        random: Random,
        settings: DeliverySettings | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._destination = destination
        self._limits = destination.limits
        self._version: Callable[[EntryT], Version] | None = getattr(destination, "version", None)
        self._settings = settings or DeliverySettings()
        self._clock = clock
        self._random = random
        self.metrics = DeliveryMetrics()
        """Counters are always current; gauges only after `snapshot()`."""

        share = self._limits.calls_per_second * self._settings.quota_share
        ceiling = share / A_SECOND
        self._rate = AdaptiveRate(
            ceiling=ceiling,
            floor=ceiling * self._settings.rate_floor,
            increase=ceiling / self._settings.recovery,
            max_per_second=ceil(share),
            burst=self._settings.burst,
            now=self._clock.monotonic(),
        )
        bytes_quota = self._limits.bytes_per_second
        self._max_bytes = ceil((bytes_quota or 0) * self._settings.quota_share)
        self._bytes = Window(self._max_bytes) if bytes_quota is not None else None
        # Not so long that the bucket would overflow meanwhile.
        self._shortest_wait = min(_PACE, self._settings.burst / 2)
        self._schedule: Schedule[EntryT, _Delivery] = Schedule(self._limits)
        self._accepted = AcceptedVersions(self._settings.remembered_versions)
        self._calls: dict[_Call[EntryT], None] = {}
        self._deliveries: dict[_Delivery, None] = {}
        self._retries: list[tuple[float, int, list[Lane[EntryT, _Delivery]]]] = []
        self._sequence = count()
        self._waits_for_room: deque[asyncio.Future[None]] = deque()
        self._waits_for_idle: list[asyncio.Future[None]] = []
        self._pace = _Alarm(self._clock, self._guarded(self._dispatch))
        self._backoff = _Alarm(self._clock, self._guarded(self._retry_due))
        self._timeout = _Alarm(self._clock, self._guarded(self._cancel_overdue))
        self._closed = False

    # --- for callers ------------------------------------------------------------------------------

    async def deliver(self, records: Sequence[RecordT]) -> list[Settled]:
        """The outcome of each record, in the order of the records, when all have one.

        Waits as long as the destination requires. Raises FatalDeliveryError when nothing can be
        delivered, and DeliveryClosedError when the engine is closed. When cancelled, calls that
        carry only records of this caller are cancelled, too.
        """
        if self._closed:
            raise DeliveryClosedError(self._destination.name)
        done = asyncio.get_running_loop().create_future()
        delivery = _Delivery(len(records), self._clock.monotonic(), done)
        self._deliveries[delivery] = None
        try:
            await self._admit(records, delivery)
            if delivery.missing:
                await done
            return cast("list[Settled]", delivery.outcomes)
        finally:
            del self._deliveries[delivery]
            if delivery.missing:
                self.metrics.abandoned += delivery.missing
                done.cancel()
                self._drop_finished()
            elif not done.done():
                done.set_result(None)
            if not self._deliveries:
                while self._waits_for_idle:
                    idle = self._waits_for_idle.pop()
                    if not idle.done():
                        idle.set_result(None)

    async def drain(self) -> None:
        """Return when no `deliver()` is under way."""
        while self._deliveries:
            idle = asyncio.get_running_loop().create_future()
            self._waits_for_idle.append(idle)
            await idle

    async def close(self) -> None:
        """Cancel what is under way, then close the destination; `drain()` first avoids repetitions.

        Every waiting `deliver()` raises DeliveryClosedError, and so does every later one.
        """
        if self._closed:
            return
        self._closed = True
        self._stop(DeliveryClosedError(self._destination.name))
        tasks = [call.task for call in self._calls]
        if tasks:
            await asyncio.wait(tasks)
        for alarm in (self._pace, self._backoff, self._timeout):
            alarm.cancel()
        await self._destination.close()

    async def __aenter__(self) -> DeliveryEngine[RecordT, EntryT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def snapshot(self) -> dict[str, float]:
        """Every metric of the catalogue, with current gauges."""
        now = self._clock.monotonic()
        metrics = self.metrics
        metrics.waiting = self._schedule.waiting
        metrics.in_flight = len(self._calls)
        metrics.rate_limit = self._rate.rate(now)
        # The first is the oldest: a dict keeps the order of insertion.
        oldest = next(iter(self._deliveries), None)
        metrics.oldest_age = now - oldest.started if oldest else 0.0
        return metrics.snapshot()

    def held(self) -> dict[str, int]:
        """Counts of what the engine keeps; when idle, of accepted versions only."""
        return {
            "lanes": self._schedule.kept,
            "retries": len(self._retries),
            "started_calls": self._rate.started,
            "reserved_bytes": 0 if self._bytes is None else self._bytes.reserved,
            "versions": len(self._accepted),
        }

    # --- in ---------------------------------------------------------------------------------------

    async def _admit(self, records: Sequence[RecordT], delivery: _Delivery) -> None:
        destination, schedule = self._destination, self._schedule
        largest = min(self._limits.max_record_bytes, self._limits.max_bytes)
        for index, record in enumerate(records):
            if index and index % _ADMITTED_AT_A_TIME == 0:
                # The rest may share a call with the records that are taken in next.
                self._dispatch(at_least=self._limits.max_records)
                await asyncio.sleep(0)
            while schedule.waiting >= self._settings.max_buffered and not delivery.is_over():
                self._dispatch()
                await self._wait_for_room()
            if delivery.is_over():  # stopped or closed meanwhile; `deliver` raises why
                return
            try:
                entry = destination.prepare(record)
                if not isinstance(entry, Rejected):
                    size = destination.size(entry)
                    batch_key = destination.batch_key(entry)
                    order_key = destination.order_key(entry)
                    version = None
                    if self._version is not None and order_key is not None:
                        version = self._version(entry)
            except Exception as error:  # noqa: BLE001 - one bad record must not stop the others
                entry = Rejected("UnusableRecord", f"{type(error).__name__}: {error}")
            if isinstance(entry, Rejected):
                self._resolve(delivery, index, entry, self._clock.monotonic())
            elif size > largest:
                message = f"{size} bytes; {destination.name} takes at most {largest} bytes a record"
                rejected = Rejected("RecordTooLarge", message)
                self._resolve(delivery, index, rejected, self._clock.monotonic())
            elif version is not None and self._accepted.has_newer(order_key, version):
                self._resolve(delivery, index, SUPERSEDED, self._clock.monotonic())
            else:
                ranked = None if version is None else rank(version, next(self._sequence))
                schedule.add(Item(entry, size, batch_key, delivery, index, ranked), order_key)
        self._dispatch()

    async def _wait_for_room(self) -> None:
        """Return when another entry may wait; the caller checks again."""
        if self._schedule.waiting < self._settings.max_buffered:
            return
        room = asyncio.get_running_loop().create_future()
        self._waits_for_room.append(room)
        await room

    def _offer_room(self) -> None:
        """Wake the first caller that waits for room, if there is some; it offers the rest again."""
        while self._waits_for_room and self._schedule.waiting < self._settings.max_buffered:
            room = self._waits_for_room.popleft()
            if not room.done():
                room.set_result(None)
                break

    # --- out --------------------------------------------------------------------------------------

    def _dispatch(self, at_least: int = 1) -> None:
        """Start every call that may start now, while at least so many entries wait."""
        schedule, rate = self._schedule, self._rate
        while (
            schedule.is_ready
            and schedule.waiting >= at_least
            and not self._pace.is_set
            and len(self._calls) < self._limits.max_in_flight
        ):
            now = self._clock.monotonic()
            wait = max(rate.wait(now), self._wait_for_bytes(now))
            if wait > 0.0:
                self._pace.set(now + max(wait, self._shortest_wait))
                break
            rate.take(now)
            room = None if self._bytes is None else self._bytes.room(now)
            self._start(schedule.take(room), now)
        self._offer_room()

    def _wait_for_bytes(self, now: float) -> float:
        """Seconds until the next call may have enough bytes."""
        if self._bytes is None:
            return 0.0
        least = max(self._schedule.next_size, self._max_bytes // _MIN_CALL_DIVISOR)
        return self._bytes.wait(now, min(least, self._max_bytes))

    def _start(self, items: list[Item[EntryT, _Delivery]], now: float) -> None:
        call = _Call(items, now)
        self._calls[call] = None
        if self._bytes is not None:
            call.size = sum(item.size for item in items)
            self._bytes.reserve(call.size)
        self.metrics.calls += 1
        self.metrics.batch_size.add(len(items))
        call.task = asyncio.get_running_loop().create_task(self._run(call))
        # A task that is cancelled before its first step never runs: its end is observed from here.
        call.task.add_done_callback(partial(self._check_ended, call))
        self._timeout.set(now + self._settings.call_timeout)

    async def _run(self, call: _Call[EntryT]) -> None:
        call.is_sent = True
        now = self._clock.monotonic()
        self._rate.note_sent(now)
        if self._bytes is not None:
            self._bytes.use(now, call.size)
        try:
            outcomes = await self._destination.send([item.entry for item in call.items])
            self._settle(call, outcomes)
        except Exception as error:  # noqa: BLE001 - the callers must not wait indefinitely
            if call in self._calls:
                self._end(call)
            self._stop(self._unexpected(error), error)
            self._dispatch()

    def _check_ended(self, call: _Call[EntryT], task: asyncio.Task[None]) -> None:
        if not call.is_sent:
            self._rate.note_dropped()
            if self._bytes is not None:
                self._bytes.release(call.size)
        if call not in self._calls:
            return
        # Neither settled nor failed, hence cancelled: by us, or because the event loop ends.
        if call.timed_out:
            self.metrics.timed_out += 1
            late = Retry(reason=f"no answer within {self._settings.call_timeout:g} s")
            self._settle(call, [late] * len(call.items))
            return
        self._end(call)
        if any(not item.owner.is_over() for item in call.items):
            self._stop(DeliveryClosedError(self._destination.name))
        self._dispatch()

    def _settle(self, call: _Call[EntryT], outcomes: Sequence[Outcome]) -> None:
        now = self._clock.monotonic()
        items = call.items
        self.metrics.call_latency.add(now - call.started)
        if len(outcomes) != len(items):
            self._end(call)
            raise ValueError(f"{len(outcomes)} outcomes for a batch of {len(items)}")
        if len(items) > 1 and _is_rejected_whole(outcomes):
            self._bisect(call)
            return
        again: list[Item[EntryT, _Delivery]] = []
        throttled = False
        after = 0.0
        fatal: Fatal | None = None
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Delivered | Rejected):
                self._resolve(item.owner, item.index, outcome, now)
                if isinstance(outcome, Delivered) and item.rank is not None:
                    self._supersede(item, now)
            elif isinstance(outcome, Retry):
                throttled = throttled or outcome.throttled
                after = max(after, outcome.after or 0.0)
                self.metrics.retried += 1
                if not item.owner.is_over():
                    again.append(item)
            else:
                fatal = outcome
        if throttled:
            self.metrics.throttled += 1
            if self._rate.note_throttled(started_at=call.started, now=now):
                self.metrics.slowed_down += 1
        else:
            self._rate.note_accepted(now)
        if fatal is not None:
            self._end(call)
            self._stop(FatalDeliveryError(self._destination.name, fatal.code, fatal.message))
        elif again:
            self._wait_to_retry(call, again, throttled, after, now)
        else:
            self._end(call)
        self._dispatch()

    def _bisect(self, call: _Call[EntryT]) -> None:
        """Send both halves of a rejected batch again, separately, to find the bad record."""
        self.metrics.bisected += 1
        middle = len(call.items) // 2
        for half in (call.items[:middle], call.items[middle:]):
            portion = object()
            for item in half:
                item.portion = portion
        alive = [item for item in call.items if not item.owner.is_over()]
        self._schedule.put_back(alive, held=False)
        self._end(call)
        self._dispatch()

    def _wait_to_retry(
        self,
        call: _Call[EntryT],
        again: list[Item[EntryT, _Delivery]],
        throttled: bool,
        after: float,
        now: float,
    ) -> None:
        for item in again:
            item.attempts += 1
        settings = self._settings
        attempt = max(item.attempts for item in again)
        cap = min(settings.backoff_cap, settings.throttled_cap if throttled else float("inf"))
        jitter = full_jitter(attempt, settings.backoff_base, cap, self._random)
        due = now + max(after, jitter)
        held = self._schedule.put_back(again, held=True)
        heappush(self._retries, (due, next(self._sequence), held))
        self._backoff.set(self._retries[0][0])
        self._end(call, keep=held)

    def _retry_due(self) -> None:
        now = self._clock.monotonic()
        while self._retries and self._retries[0][0] <= now:
            self._schedule.release(heappop(self._retries)[2])
        if self._retries:
            self._backoff.set(self._retries[0][0])
        self._dispatch()

    def _cancel_overdue(self) -> None:
        now = self._clock.monotonic()
        for call in self._calls:  # in the order of their start
            due = call.started + self._settings.call_timeout
            if due > now:
                self._timeout.set(due)
                break
            if not call.timed_out:
                call.timed_out = True
                call.task.cancel()

    def _end(self, call: _Call[EntryT], keep: Sequence[Lane[EntryT, _Delivery]] = ()) -> None:
        """Remove a call and release its lanes, except those to keep."""
        del self._calls[call]
        lanes = dict.fromkeys(item.lane for item in call.items if item.lane.key is not None)
        for lane in keep:
            lanes.pop(lane, None)
        self._schedule.release(lanes)

    def _supersede(self, accepted: Item[EntryT, _Delivery], now: float) -> None:
        """Settle the waiting entries that are older than an accepted one."""
        assert self._version is not None
        self._accepted.add(accepted.lane.key, self._version(accepted.entry))
        for item in self._schedule.take_superseded(accepted):
            self._resolve(item.owner, item.index, SUPERSEDED, now)

    def _resolve(self, delivery: _Delivery, index: int, outcome: Settled, now: float) -> None:
        if delivery.is_over():
            return
        if isinstance(outcome, Delivered):
            self.metrics.delivered += 1
            outcome = DELIVERED
        elif isinstance(outcome, Rejected):
            self.metrics.rejected += 1
            if outcome.whole_call:
                outcome = Rejected(outcome.code, outcome.message)
        else:
            self.metrics.superseded += 1
        self.metrics.delivery_latency.add(now - delivery.started)
        delivery.outcomes[index] = outcome
        delivery.missing -= 1
        if delivery.missing == 0:
            delivery.done.set_result(None)

    # --- ends -------------------------------------------------------------------------------------

    def _stop(self, error: Exception, cause: BaseException | None = None) -> None:
        """Fail every `deliver()` that is under way."""
        error.__cause__ = cause
        for delivery in self._deliveries:
            if not delivery.is_over():
                delivery.done.set_exception(error)
                delivery.done.exception()  # seen: its `deliver()` may be cancelled before it looks
        self._drop_finished()

    def _drop_finished(self) -> None:
        """Drop waiting items of deliveries that are over, and cancel calls that carry no others."""
        apart = [lane for _, _, lanes in self._retries for lane in lanes]
        self._schedule.drop(_Delivery.is_over, apart)
        for call in list(self._calls):
            if all(item.owner.is_over() for item in call.items):
                call.task.cancel()
        self._offer_room()

    def _unexpected(self, error: Exception) -> FatalDeliveryError:
        return FatalDeliveryError(
            self._destination.name,
            "UnexpectedError",
            f"{type(error).__name__}: {error}. This is a bug in the pipeline, not in the data; "
            "nothing was acknowledged. Please report it with the stack trace from the log.",
        )

    def _guarded(self, callback: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - the callers must not wait indefinitely
                self._stop(self._unexpected(error), error)

        return run


def _is_rejected_whole(outcomes: Sequence[Outcome]) -> bool:
    return all(isinstance(outcome, Rejected) and outcome.whole_call for outcome in outcomes)
