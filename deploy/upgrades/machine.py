"""Runs upgrades as a sequence of steps, over any target.

    snapshot -> update -> wait -> verify -> prune -> done
                   |        |       |
                   +--------+-------+--> roll back -> rolled back

    replace -> wait -> ...       with --force: for a version of which no snapshot can be created

Every step can be repeated: it reads the target's state first and does only what remains to be done.
The journal is written before a step starts, so the next client continues where the last one
stopped, whatever has happened in between.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from connectors.clock import SYSTEM_CLOCK, Clock
from deploy.upgrades import journal as journals
from deploy.upgrades import orders, snapshots
from deploy.upgrades.journal import Journal, Step
from deploy.upgrades.orders import StuckError
from deploy.upgrades.target import (
    RUNNING_STATUSES,
    Application,
    BusyError,
    ConcurrentChangeError,
    Configuration,
    Health,
    Restore,
    SnapshotStatus,
    Status,
    Target,
)
from deploy.upgrades.verification import VerifySettings, judge
from schemas.errors import TunemeshError

Report = Callable[[str], None]
"""Takes one line of progress at a time."""

T = TypeVar("T")


class UpgradeError(TunemeshError):
    """An upgrade that cannot start or continue; the refused call has changed nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds, and how often a version is started."""

    snapshot_seconds: float = 600.0
    change_seconds: float = 1_800.0
    poll_seconds: float = 0.5
    retry_seconds: float = 120.0
    """How long one call is retried while the target is busy or does not answer."""
    max_starts: int = 3


@dataclass(frozen=True, slots=True)
class Change:
    """The new version of an upgrade, and where its state is restored from."""

    wanted: Configuration
    release: Path | None
    restore: Restore
    keep: int = 5
    """The number of snapshots to keep."""
    force: bool = False
    """Create no snapshot first, since none can be created: stop the running version by force."""


@dataclass(frozen=True, slots=True)
class UpgradeMachine:
    """Runs upgrades of one application; one client at a time holds its journal."""

    target: Target
    file: Path
    verify: VerifySettings = field(default_factory=VerifySettings)
    limits: Limits = field(default_factory=Limits)
    report: Report = lambda line: None
    clock: Clock = SYSTEM_CLOCK

    def read_journal(self) -> Journal | None:
        """Return the journal of the last upgrade, finished or not."""
        return journals.read(self.file)

    def begin(self, change: Change) -> Journal:
        """Upgrade the application; returns the final journal.

        Raises UpgradeError if another upgrade is not finished, or if there is nothing to upgrade.
        """
        with self._lock():
            return self._run_steps(self._start_upgrade(change))

    def resume(self, journal: Journal) -> Journal:
        """Continue an upgrade; returns the final journal (done, rolled back or abandoned)."""
        with self._lock():
            return self._run_steps(journal)

    def roll_back(self, journal: Journal, why: str) -> Journal:
        """Roll back an upgrade, finished or not; returns the final journal."""
        with self._lock():
            return self._run_steps(self._start_rollback(journal, why))

    def roll_back_keeping_state(self, journal: Journal, change: Change) -> Journal:
        """Roll back a finished upgrade by another one, which keeps the present state.

        Where no snapshot of it can be created, the state of the former version is restored, as by
        :meth:`roll_back`.
        """
        with self._lock():
            name = self._new_snapshot_name(self.target.describe())
            if why := self._ensure_snapshot(name):
                self.report(f"  {why}; restoring the state of the former version")
                return self._run_steps(self._start_rollback(journal, f"requested; {why}"))
            return self._run_steps(self._start_upgrade(change, name))

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the journal; raises UpgradeError if another client holds it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UpgradeError(
                    f"another tunemesh is upgrading {self.target.name}; when it has ended, see:"
                    " tunemesh deploy status"
                ) from None
            yield

    def _start_upgrade(self, change: Change, snapshot: str | None = None) -> Journal:
        """``snapshot``: the name of one that exists already."""
        unfinished = self.read_journal()
        stuck = unfinished is not None and unfinished.step is Step.ROLL_BACK
        if unfinished is not None and not unfinished.is_ended and not (change.force and stuck):
            raise UpgradeError(
                f"an upgrade to {unfinished.wanted.release} is not finished (step"
                f" {unfinished.step.value!r}): `tunemesh deploy upgrade` without a release"
                " continues it, `tunemesh deploy rollback` rolls it back"
            )
        application = self.target.describe()
        require_upgradable(application, force=change.force)
        running = application.status in RUNNING_STATUSES
        if application.configuration == change.wanted and not change.force:
            raise UpgradeError(
                f"{application.name} runs {change.wanted.release} with these settings already"
                f" (version {application.version})"
            )
        now = self.clock.now()
        journal = Journal(
            target=self.target.kind,
            application=application.name,
            began=now,
            step=Step.REPLACE if change.force else Step.SNAPSHOT,
            base=application.version,
            former=application.configuration,
            wanted=change.wanted,
            release=None if change.release is None else str(change.release),
            restore=change.restore,
            snapshot="" if change.force else snapshot or self._new_snapshot_name(application),
            before=self.target.read_health() if running else None,
            keep=change.keep,
            forced=change.force,
            stopped=not running,
            since=now,
            reverts=snapshot is not None,
        )
        return self._save(journal)

    def _run_steps(self, journal: Journal) -> Journal:
        steps = {
            Step.SNAPSHOT: self._create_snapshot,
            Step.UPDATE: self._update,
            Step.REPLACE: self._replace,
            Step.WAIT: self._wait,
            Step.VERIFY: self._verify,
            Step.PRUNE: self._prune,
            Step.ROLL_BACK: self._restore_former,
        }
        while not journal.is_ended:
            journal = self._save(steps[journal.step](journal))
        return journal

    def _start_rollback(self, journal: Journal, why: str) -> Journal:
        if journal.step is Step.SNAPSHOT:
            return self._save(self._abandon(journal, why))
        if journal.step in (Step.ROLLED_BACK, Step.ABANDONED):
            raise UpgradeError(
                f"the last upgrade was {journal.step.value} already: {journal.why or 'no reason'}"
            )
        if journal.step is not Step.ROLL_BACK:
            application = self.target.describe()
            if journal.step is Step.DONE and application.configuration != journal.wanted:
                raise UpgradeError(
                    f"{application.name} was changed since that upgrade (it is at version"
                    f" {application.version}); name the release to return to: tunemesh deploy"
                    " upgrade RELEASE"
                )
            journal = self._save(self._move(journal, Step.ROLL_BACK, why))
        return journal

    # The steps.

    def _create_snapshot(self, journal: Journal) -> Journal:
        """Create the snapshot for a rollback, before anything is changed."""
        application = self.target.describe()
        if application.version != journal.base:
            return self._abandon_changed(journal, application)
        if why := self._ensure_snapshot(journal.snapshot):
            return self._abandon(
                journal,
                f"{why}. No snapshot can be created of a version that restarts in a loop: --force"
                " stops it and restores its last snapshot",
            )
        return self._move(journal, Step.UPDATE)

    def _ensure_snapshot(self, name: str) -> str:
        """Create a snapshot unless it exists; returns why there is none, empty when it is READY."""
        self.report(f"snapshot {name}")
        deadline = self.clock.now() + self.limits.snapshot_seconds
        while True:
            snapshot = snapshots.find(self.target, name)
            if snapshot is None:
                self._retry(BusyError, lambda: self.target.create_snapshot(name), deadline)
            elif snapshot.status is SnapshotStatus.READY:
                return ""
            elif snapshot.status is SnapshotStatus.FAILED:
                return f"the snapshot {name} failed"
            if self.clock.now() > deadline:
                return f"the snapshot {name} is not ready in time"
            self.clock.sleep(self.limits.poll_seconds)

    def _update(self, journal: Journal) -> Journal:
        """Order the new version, unless the target has it already."""
        deadline = self.clock.now() + self.limits.retry_seconds
        while True:
            application = self.target.describe()
            if application.version > journal.base:
                rolled_back = application.rolled_back_from is not None
                if application.configuration == journal.wanted or rolled_back:
                    return self._move(journal, Step.WAIT)
                return self._abandon_changed(journal, application)
            self.report(f"update to {journal.wanted.release}")
            release = None if journal.release is None else Path(journal.release)
            update = partial(
                self.target.update, application, journal.wanted, release, journal.restore
            )
            try:
                self._retry(BusyError, update, deadline)
            except ConcurrentChangeError as error:
                # Perhaps through this very order, whose answer was lost: read the state again.
                if self.clock.now() > deadline:
                    return self._abandon(journal, str(error))
                self.clock.sleep(self.limits.poll_seconds)
            except TunemeshError as error:
                application = self.target.describe()
                unchanged = application.version == journal.base
                if unchanged and application.status in RUNNING_STATUSES:
                    return self._abandon(journal, str(error))
                return self._move(journal, Step.ROLL_BACK, str(error))

    def _replace(self, journal: Journal) -> Journal:
        """Stop the former version without a snapshot, change the application, start it."""
        deadline, starts = self.clock.now() + self.limits.change_seconds, 0
        for application in self._poll():
            new = application.version > journal.base
            if new and application.configuration != journal.wanted:
                return self._abandon_changed(journal, application)
            if new and application.status in (*RUNNING_STATUSES, Status.STARTING):
                return self._move(journal, Step.WAIT)
            starts += new and application.status is Status.READY
            if self.clock.now() > deadline or starts > self.limits.max_starts:
                why = (
                    self.target.describe_failure(application.version)
                    or f"it is {application.status}"
                )
                why = f"the new version did not start: {why}"
                return self._move(journal, Step.ROLL_BACK, why)
            try:
                orders.replace_by_force(self.target, journal, application)
                self.target.advance()
            except (BusyError, ConcurrentChangeError) as error:
                self.report(f"  {error}")
            except TunemeshError as error:
                return self._move(journal, Step.ROLL_BACK, str(error))
        raise AssertionError

    def _wait(self, journal: Journal) -> Journal:
        """Wait until the new version runs, or the target has rolled it back."""
        deadline = self.clock.now() + self.limits.change_seconds
        for application in self._poll():
            running = application.status in RUNNING_STATUSES
            if running and application.configuration == journal.wanted:
                return self._move(journal, Step.VERIFY)
            if running or application.status is Status.READY:
                why = self.target.describe_failure(journal.base + 1) or "the target gave no reason"
                what = "the target rolled it back" if running else "the new version did not start"
                journal = replace(journal, by_service=running)
                return self._move(journal, Step.ROLL_BACK, f"{what}: {why}")
            if self.clock.now() > deadline:
                why = f"still {application.status} after {self.limits.change_seconds:.0f} s"
                return self._move(journal, Step.ROLL_BACK, why)
            try:
                self._retry(BusyError, self.target.advance, deadline)
            except TunemeshError as error:
                return self._move(journal, Step.ROLL_BACK, str(error))
        raise AssertionError

    def _verify(self, journal: Journal) -> Journal:
        """Check that the new version works as well as the former one."""
        self.report("verify")
        began, first, last = self.clock.now(), None, ""
        deadline = began + self.verify.max_seconds
        while True:
            application, health = self._observe(deadline)
            if application.configuration != journal.wanted:
                return self._abandon_changed(journal, application)
            first = first or health
            verdict = judge(journal.before, first, health, self.verify)
            seconds = self.clock.now() - began
            if verdict.failure:
                return self._move(journal, Step.ROLL_BACK, verdict.failure)
            if verdict.is_healthy and seconds >= self.verify.min_seconds:
                self.report(f"  healthy: {_format_health(health)}")
                return self._move(journal, Step.PRUNE)
            text = "; ".join(verdict.pending) or "healthy so far"
            if text != last:
                self.report(f"  {text}")
                last = text
            if seconds >= self.verify.max_seconds:
                return self._move(journal, Step.ROLL_BACK, f"after {seconds:.0f} s still: {text}")
            self.clock.sleep(self.verify.poll_seconds)

    def _prune(self, journal: Journal) -> Journal:
        """Delete old snapshots; a failure here does not fail the upgrade."""
        try:
            needed = snapshots.names_for_rollback(journal)
            deleted = snapshots.prune(self.target, journal.keep, needed)
        except TunemeshError as error:
            self.report(f"  old snapshots are kept: {error}")
        else:
            if deleted:
                self.report(f"  deleted {len(deleted)} old snapshots, kept {journal.keep}")
        return self._move(journal, Step.DONE)

    def _restore_former(self, journal: Journal) -> Journal:
        """Return to the former configuration, with the newest state that it has left."""
        self.report(f"roll back to {journal.former.release}: {journal.why}")
        deadline = self.clock.now() + self.limits.change_seconds
        ordered, starts, ignored = False, 0, 0
        for application in self._poll():
            if application.configuration not in (journal.former, journal.wanted):
                return self._abandon_changed(journal, application)
            former = application.configuration == journal.former and (
                application.version > journal.base + 1 or application.version == journal.base
            )
            running = application.status in RUNNING_STATUSES
            ready = application.status is Status.READY
            if former and (running or (journal.stopped and ready)):
                return self._move(journal, Step.ROLLED_BACK)
            starts += former and ready
            ignored += ordered and not former and running
            failed = starts > self.limits.max_starts or ignored >= self.limits.max_starts
            if failed or self.clock.now() > deadline:
                why = self.target.describe_failure(application.version)
                raise StuckError(
                    f"{application.name} is {application.status} at version {application.version}"
                    f" ({application.configuration.release}) and could not be rolled back to"
                    f" {journal.former.release}{': ' + why if why else ''}. Its snapshots still"
                    " exist: tunemesh deploy snapshots. To try again: tunemesh deploy rollback."
                    " To install another release: tunemesh deploy upgrade RELEASE --force"
                )
            try:
                ordered = orders.restore_former(
                    self.target, journal, application, former=former, ordered=ordered
                )
                self.target.advance()
            except (BusyError, ConcurrentChangeError) as error:
                self.report(f"  {error}")
        raise AssertionError

    # What the steps share.

    def _new_snapshot_name(self, application: Application) -> str:
        return f"{snapshots.NAME_PREFIX}{application.version + 1}-{int(self.clock.now())}"

    def _observe(self, deadline: float) -> tuple[Application, Health]:
        """Read the application and its health; raises the target's error after the retries.

        Without an answer nothing can be ordered either: the next client verifies again.
        """
        return self._retry(
            TunemeshError, lambda: (self.target.describe(), self.target.read_health()), deadline
        )

    def _retry(self, retried: type[TunemeshError], call: Callable[[], T], deadline: float) -> T:
        """Call until no error of this type is raised, up to the deadline and ``retry_seconds``."""
        deadline = min(deadline, self.clock.now() + self.limits.retry_seconds)
        while True:
            try:
                return call()
            except retried:
                if self.clock.now() > deadline:
                    raise
                self.clock.sleep(self.limits.poll_seconds)

    def _poll(self) -> Iterator[Application]:
        """Yield the application's state indefinitely, and report its changes."""
        last = None
        while True:
            application = self.target.describe()
            if (application.status, application.version) != last:
                self.report(f"  {application.status}, version {application.version}")
                last = (application.status, application.version)
            yield application
            self.clock.sleep(self.limits.poll_seconds)

    def _move(self, journal: Journal, step: Step, why: str | None = None) -> Journal:
        return replace(
            journal, step=step, since=self.clock.now(), why=journal.why if why is None else why
        )

    def _abandon(self, journal: Journal, why: str) -> Journal:
        return self._move(journal, Step.ABANDONED, why)

    def _abandon_changed(self, journal: Journal, application: Application) -> Journal:
        why = (
            f"another client has changed {application.name}: it is at version"
            f" {application.version} ({application.configuration.release}), and this upgrade"
            f" started at {journal.base}"
        )
        return self._abandon(journal, why)

    def _save(self, journal: Journal) -> Journal:
        journals.write(self.file, journal)
        return journal


def require_upgradable(application: Application, *, force: bool) -> None:
    """Raise UpgradeError if the application does not run; with ``force`` it may be stopped."""
    stopped = application.status is Status.READY
    if application.status not in RUNNING_STATUSES and not (force and stopped):
        raise UpgradeError(
            f"{application.name} is {application.status}; only a running application is upgraded."
            + (" --force changes a stopped one and starts it." if stopped else "")
            + " See: tunemesh deploy status"
        )


def _format_health(health: Health) -> str:
    delivered = sum(flow.delivered for flow in health.flows.values())
    dead_letters = sum(flow.dead_letters for flow in health.flows.values())
    return (
        f"{health.checkpoints} checkpoints, no restart, {delivered:,} delivered,"
        f" {dead_letters:,} dead letters"
    )
