"""A target in memory for the tests of the state machine: no server, no clock, no job.

It has the rules that the machine relies on. The result of a release is scripted by its name; the
client can be interrupted at any call (:class:`Interrupted`), before or after its effect.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.upgrades.target import (
    RUNNING_STATUSES,
    Application,
    BusyError,
    ConcurrentChangeError,
    Configuration,
    FlowHealth,
    Health,
    Restore,
    RestoreKind,
    Snapshot,
    SnapshotStatus,
    Status,
    TargetError,
)

HEALTHY = Health(True, 0, 5, {"interactions": FlowHealth(5_000, 10, 40, 500.0)})
SILENT = Health(True, 0, 5, {"interactions": FlowHealth(0, 0, 0, 500.0)})
QUIET = Health(True, 0, 5, {"interactions": FlowHealth(0, 0, 0, 0.0)})
RESTARTING = Health(True, 3, 0, {}, "ValueError: bad code")
DEAD_LETTERS = Health(True, 0, 5, {"interactions": FlowHealth(3_000, 2_000, 40, 500.0)})
SLOW = Health(True, 0, 5, {"interactions": FlowHealth(5_000, 10, 90_000, 500.0)})
NO_CHECKPOINT = Health(True, 0, 0, {"interactions": FlowHealth(5_000, 10, 40, 500.0)})


class Interrupted(BaseException):
    """Ends the client, like a KeyboardInterrupt or a kill."""


@dataclass(slots=True)
class ModelTarget:
    """See :class:`deploy.upgrades.target.Target`."""

    configuration: Configuration
    name: str = "app"
    kind: str = "local"
    polls: int = 2
    """After how many polls a change is complete."""
    system_rollback: bool = True
    health_of: dict[str, Health] = field(default_factory=dict)
    fails: set[str] = field(default_factory=set)
    hangs: set[str] = field(default_factory=set)
    no_snapshot: set[str] = field(default_factory=set)
    """Releases whose snapshots fail."""
    keeps: bool = False
    """Its own rollback fails: the version that runs keeps running."""
    busy: int = 0
    """How many orders are refused because the application is busy."""
    calls: list[str] = field(default_factory=list)
    interrupt_at: int | None = None
    """The number of the call that interrupts the client, from 1."""
    interrupt_after: bool = False
    status: Status = Status.RUNNING
    number: int = 1
    rolled_back_from: int | None = None
    saved: list[Snapshot] = field(default_factory=list)
    versions: dict[int, Configuration] = field(default_factory=dict)
    starts: list[tuple[str, str | None]] = field(default_factory=list)
    """The release and the snapshot of each start."""
    _then: Callable[[], None] | None = None
    _left: int = 0
    _clock: itertools.count[int] = field(default_factory=itertools.count)
    _former: int | None = None
    _runs: int = 1
    _readings: int = 0

    def __post_init__(self) -> None:
        self.versions[1] = self.configuration

    # Reading.

    def describe(self) -> Application:
        self._record_call("describe")
        self._poll()
        return Application(
            self.name,
            self.status,
            self.number,
            self.versions[self.number],
            str(self.number),
            self.rolled_back_from,
        )

    def describe_version(self, number: int) -> Configuration:
        return self.versions[number]

    def find_files(self, release: str) -> Path | None:
        return None

    def check(self, configuration: Configuration, release: Path) -> None:
        pass

    def list_snapshots(self) -> tuple[Snapshot, ...]:
        self._record_call("list_snapshots")
        snapshots = tuple(self.saved)
        self.saved = [
            replace(s, status=self._final_status(s)) if s.status is SnapshotStatus.CREATING else s
            for s in snapshots
        ]
        return snapshots

    def _final_status(self, snapshot: Snapshot) -> SnapshotStatus:
        failing = self.versions[snapshot.version].release in self.no_snapshot
        return SnapshotStatus.FAILED if failing else SnapshotStatus.READY

    def read_health(self) -> Health:
        self._record_call("read_health")
        health = self.health_of.get(self.versions[self.number].release, HEALTHY)
        self._readings += 1
        flows = {
            name: replace(flow, delivered=flow.delivered + self._readings if flow.delivered else 0)
            for name, flow in health.flows.items()
        }
        return replace(health, flows=flows)

    def describe_failure(self, version: int) -> str:
        return f"version {version}: exit code 1"

    # Orders.

    def create(self, configuration: Configuration, release: Path) -> None:
        raise AssertionError("not called by the machine")

    def start(self, restore: Restore) -> None:
        def order() -> None:
            self._require(self.status is Status.READY)
            self.status = Status.STARTING
            self._schedule(lambda: self._start(restore))

        self._order("start", order)

    def stop(self, *, force: bool) -> None:
        def order() -> None:
            self._require(self.status in RUNNING_STATUSES)
            if not force:
                self._save("service")
            self.status = Status.STOPPING
            self._schedule(lambda: self._set_status(Status.READY))

        self._order("stop", order)

    def update(
        self,
        base: Application,
        configuration: Configuration,
        release: Path | None,
        restore: Restore,
    ) -> None:
        def order() -> None:
            if base.token != str(self.number):
                raise ConcurrentChangeError("another client has changed it")
            running = self.status in RUNNING_STATUSES
            self._require(running or self.status is Status.READY)
            former, self.number = self.number, self.number + 1
            self.versions[self.number] = configuration
            self.rolled_back_from = None
            self.status = Status.UPDATING
            if not running:
                self._schedule(lambda: self._set_status(Status.READY))
            elif configuration.release not in self.hangs:
                self._schedule(lambda: self._restart(former, restore))

        self._order("update", order)

    def roll_back(self, base: Application) -> None:
        def order() -> None:
            if base.token != str(self.number):
                raise ConcurrentChangeError("another client has changed it")
            self._require(self.status in (Status.UPDATING, Status.AUTOSCALING, Status.RUNNING))
            if not self.saved:
                raise TargetError("there are no snapshots")
            to = self._runs if self.status is Status.UPDATING else self._former
            assert to is not None
            self._revert(self._runs if self.keeps else to)

        self._order("roll_back", order)

    def advance(self) -> None:
        pass

    def create_snapshot(self, name: str) -> None:
        def order() -> None:
            self._require(self.status is Status.RUNNING)
            self._save(name, SnapshotStatus.CREATING)

        self._order("create_snapshot", order)

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        self._order("delete_snapshot", lambda: self.saved.remove(snapshot))

    # The effects.

    def _restart(self, base: int, restore: Restore) -> None:
        self._save("service", version=base)
        if self.versions[self.number].release not in self.fails:
            self._schedule(lambda: self._start(restore))
        elif self.system_rollback:
            self._revert(base)
        else:
            self._set_status(Status.READY)

    def _start(self, restore: Restore) -> None:
        ready = self._ready()
        name = {
            RestoreKind.NOTHING: None,
            RestoreKind.LATEST: ready[-1].name if ready else None,
            RestoreKind.CUSTOM: restore.snapshot,
        }[restore.kind]
        assert name is None or name in [snapshot.name for snapshot in ready]
        self.starts.append((self.versions[self.number].release, name))
        if self.versions[self.number].release in self.fails:
            self._set_status(Status.READY)
            return
        if self._runs != self.number:
            self._former, self._runs = self._runs, self.number
        self._set_status(Status.RUNNING)

    def _ready(self) -> list[Snapshot]:
        return [s for s in self.saved if s.status is SnapshotStatus.READY]

    def _revert(self, to: int) -> None:
        self.rolled_back_from = self.number
        self.number += 1
        self.versions[self.number] = self.versions[to]
        if to == self._runs:
            self._runs = self.number
        self.status = Status.ROLLING_BACK
        self._schedule(lambda: self._start(Restore(RestoreKind.LATEST)))

    def _save(
        self, name: str, status: SnapshotStatus = SnapshotStatus.READY, version: int | None = None
    ) -> None:
        number = next(self._clock)
        chosen = name if name != "service" else f"service-{number}"
        self.saved.append(Snapshot(chosen, status, version or self.number, float(number)))

    def _set_status(self, status: Status) -> None:
        self.status = status

    def _schedule(self, then: Callable[[], None]) -> None:
        self._then, self._left = then, self.polls

    def _poll(self) -> None:
        if self._then is not None:
            self._left -= 1
            if self._left <= 0:
                then, self._then = self._then, None
                then()

    def _require(self, allowed: bool) -> None:
        if not allowed:
            raise BusyError(f"the application is {self.status}")

    def _order(self, name: str, effect: Callable[[], None]) -> None:
        if self.busy:
            self.busy -= 1
            self._record_call(name)
            raise BusyError("busy")
        if not self.interrupt_after:
            self._record_call(name)
            effect()
            return
        effect()
        self._record_call(name)

    def _record_call(self, name: str) -> None:
        self.calls.append(name)
        if self.interrupt_at == len(self.calls):
            raise Interrupted(name)
