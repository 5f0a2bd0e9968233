"""The one way of an upgrade, over any target.

    snapshot -> update -> wait -> verify -> prune -> done
                   |        |       |
                   +--------+-------+--> roll back -> rolled back

    replace -> wait -> ...       by force: of a version of which no snapshot can be made

Every step can be repeated: it looks at the target first, and does what is still to be done. The
journal is written before a step begins, so whoever calls next goes on where the last one stopped,
whatever has happened meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from connectors.clock import SYSTEM_CLOCK, Clock
from deploy.upgrades import journal as journals
from deploy.upgrades import orders, snapshots
from deploy.upgrades.journal import Journal, Step
from deploy.upgrades.orders import StuckError
from deploy.upgrades.target import (
    RUNS,
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


class UpgradeError(TunemeshError):
    """An upgrade that cannot begin or go on; nothing was changed by the refused call."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is waited for what, in seconds, and how often the former version is started."""

    snapshot: float = 600.0
    change: float = 1_800.0
    poll: float = 0.5
    patience: float = 120.0
    """For a target that does not answer or is busy, in one wait."""
    starts: int = 3


@dataclass(frozen=True, slots=True)
class Change:
    """What an upgrade is asked for."""

    wanted: Configuration
    release: Path | None
    restore: Restore
    keep: int = 5
    force: bool = False
    """No snapshot first, since none can be made: what runs is stopped by force."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Runs upgrades of one application; one client at a time holds its journal."""

    target: Target
    file: Path
    verify: VerifySettings = field(default_factory=VerifySettings)
    limits: Limits = field(default_factory=Limits)
    report: Report = lambda line: None
    clock: Clock = SYSTEM_CLOCK

    def present(self) -> Journal | None:
        """The journal of the last upgrade, finished or not."""
        return journals.read(self.file)

    def begin(self, change: Change) -> Journal:
        """An upgrade of the running application; returns its end. Raises UpgradeError if another
        one is not finished, or if there is nothing to upgrade."""
        with self._alone():
            return self._carried_on(self._begun(change))

    def resume(self, journal: Journal) -> Journal:
        """Go on with an upgrade; returns its end (done, rolled back or abandoned)."""
        with self._alone():
            return self._carried_on(journal)

    def take_back(self, journal: Journal, why: str) -> Journal:
        """Roll back an upgrade, finished or not; returns its end."""
        with self._alone():
            return self._carried_on(self._turned(journal, why))

    def go_back(self, journal: Journal, change: Change) -> Journal:
        """Take back a finished upgrade by another one, which keeps the present state; where no
        snapshot of it can be made, as :meth:`take_back` does."""
        with self._alone():
            name = self._new_name(self.target.state())
            if why := self._made(name):
                self.report(f"  {why}; back to the state that the former version left")
                return self._carried_on(self._turned(journal, f"as told; {why}"))
            return self._carried_on(self._begun(change, name))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One client at a time; another one is told so."""
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

    def _begun(self, change: Change, snapshot: str | None = None) -> Journal:
        """``snapshot``: one that is there already."""
        unfinished = self.present()
        stuck = unfinished is not None and unfinished.step is Step.ROLL_BACK
        if unfinished is not None and not unfinished.ended and not (change.force and stuck):
            raise UpgradeError(
                f"an upgrade to {unfinished.wanted.release} is not finished (step"
                f" {unfinished.step.value!r}): `tunemesh deploy upgrade` without a release goes on"
                " with it, `tunemesh deploy rollback` takes it back"
            )
        seen = self.target.state()
        require_upgradable(seen, force=change.force)
        running = seen.status in RUNS
        if seen.configuration == change.wanted and not change.force:
            raise UpgradeError(
                f"{seen.name} runs {change.wanted.release} with these settings already (version"
                f" {seen.version})"
            )
        now = self.clock.now()
        journal = Journal(
            target=self.target.kind,
            application=seen.name,
            began=now,
            step=Step.REPLACE if change.force else Step.SNAPSHOT,
            base=seen.version,
            former=seen.configuration,
            wanted=change.wanted,
            release=None if change.release is None else str(change.release),
            restore=change.restore,
            snapshot="" if change.force else snapshot or self._new_name(seen),
            before=self.target.health() if running else None,
            keep=change.keep,
            forced=change.force,
            stopped=not running,
            since=now,
        )
        return self._save(journal)

    def _carried_on(self, journal: Journal) -> Journal:
        steps = {
            Step.SNAPSHOT: self._snapshot,
            Step.UPDATE: self._update,
            Step.REPLACE: self._replace,
            Step.WAIT: self._wait,
            Step.VERIFY: self._verify,
            Step.PRUNE: self._prune,
            Step.ROLL_BACK: self._roll_back,
        }
        while not journal.ended:
            journal = steps[journal.step](journal)
            journals.write(self.file, journal)
        return journal

    def _turned(self, journal: Journal, why: str) -> Journal:
        if journal.step is Step.SNAPSHOT:
            return self._save(journal.at(Step.ABANDONED, self.clock.now(), why))
        if journal.step in (Step.ROLLED_BACK, Step.ABANDONED):
            raise UpgradeError(
                f"the last upgrade was {journal.step.value} already: {journal.why or 'no reason'}"
            )
        if journal.step is not Step.ROLL_BACK:
            seen = self.target.state()
            if journal.step is Step.DONE and seen.configuration != journal.wanted:
                raise UpgradeError(
                    f"{seen.name} was changed since that upgrade (version {seen.version} now); what"
                    " to go back to must be said: tunemesh deploy upgrade RELEASE"
                )
            journal = self._save(journal.at(Step.ROLL_BACK, self.clock.now(), why))
        return journal

    # The steps.

    def _snapshot(self, journal: Journal) -> Journal:
        """A snapshot to come back to, complete before anything else happens."""
        seen = self.target.state()
        if seen.version != journal.base:
            return self._abandoned(journal, self._changed(seen, journal))
        if why := self._made(journal.snapshot):
            return self._abandoned(
                journal,
                f"{why}. Of a version that restarts none can be made: --force stops it and goes on"
                " from its last one",
            )
        return journal.at(Step.UPDATE, self.clock.now())

    def _made(self, name: str) -> str:
        """Make a snapshot unless it is there; why there is none, empty when it is READY."""
        self.report(f"snapshot {name}")
        deadline = self.clock.now() + self.limits.snapshot
        while True:
            found = snapshots.named(self.target, name)
            if found is None:
                self._ask(lambda: self.target.snapshot(name), deadline)
            elif found.status is SnapshotStatus.READY:
                return ""
            elif found.status is SnapshotStatus.FAILED:
                return f"the snapshot {name} failed"
            if self.clock.now() > deadline:
                return f"the snapshot {name} is not ready in time"
            self.clock.sleep(self.limits.poll)

    def _update(self, journal: Journal) -> Journal:
        """The order for the new version, unless the target has it already."""
        deadline = self.clock.now() + self.limits.patience
        while True:
            seen = self.target.state()
            if seen.version > journal.base:
                if seen.configuration == journal.wanted or seen.rolled_back_from is not None:
                    return journal.at(Step.WAIT, self.clock.now())
                return self._abandoned(journal, self._changed(seen, journal))
            self.report(f"update to {journal.wanted.release}")
            release = None if journal.release is None else Path(journal.release)
            order = partial(self.target.update, seen, journal.wanted, release, journal.restore)
            try:
                self._ask(order, deadline)
            except ConcurrentChangeError as error:
                # Perhaps by this very order, whose answer was lost: look again.
                if self.clock.now() > deadline:
                    return self._abandoned(journal, str(error))
                self.clock.sleep(self.limits.poll)
            except TunemeshError as error:
                now = self.target.state()
                if now.version == journal.base and now.status in RUNS:
                    return self._abandoned(journal, str(error))
                return journal.at(Step.ROLL_BACK, self.clock.now(), str(error))

    def _replace(self, journal: Journal) -> Journal:
        """By force: stopped without a snapshot, changed while it is stopped, started."""
        deadline, last, starts = self.clock.now() + self.limits.change, None, 0
        while True:
            seen = self.target.state()
            new = seen.version > journal.base
            if new and seen.configuration != journal.wanted:
                return self._abandoned(journal, self._changed(seen, journal))
            if new and seen.status in (*RUNS, Status.STARTING):
                return journal.at(Step.WAIT, self.clock.now())
            if (seen.status, seen.version) != last:
                self.report(f"  {seen.status}, version {seen.version}")
                last = (seen.status, seen.version)
            starts += new and seen.status is Status.READY
            if self.clock.now() > deadline or starts > self.limits.starts:
                why = self.target.failure(seen.version) or f"it is {seen.status}"
                why = f"the new version did not start: {why}"
                return journal.at(Step.ROLL_BACK, self.clock.now(), why)
            try:
                orders.by_force(self.target, journal, seen)
                self.target.advance()
            except (BusyError, ConcurrentChangeError) as error:
                self.report(f"  {error}")
            except TunemeshError as error:
                return journal.at(Step.ROLL_BACK, self.clock.now(), str(error))
            self.clock.sleep(self.limits.poll)

    def _wait(self, journal: Journal) -> Journal:
        """Until the new version runs, or the target has given it up."""
        deadline = self.clock.now() + self.limits.change
        last = None
        while True:
            seen = self.target.state()
            if seen.status is not last:
                self.report(f"  {seen.status}, version {seen.version}")
                last = seen.status
            if seen.status in RUNS and seen.configuration == journal.wanted:
                return journal.at(Step.VERIFY, self.clock.now())
            if seen.status in RUNS:
                why = self.target.failure(journal.base + 1) or "it gave no reason"
                journal = replace(journal, by_service=True)
                why = f"the target gave the new version up: {why}"
                return journal.at(Step.ROLL_BACK, self.clock.now(), why)
            if seen.status is Status.READY:
                why = self.target.failure(journal.base + 1) or "the target gave no reason"
                why = f"the new version did not start: {why}"
                return journal.at(Step.ROLL_BACK, self.clock.now(), why)
            if self.clock.now() > deadline:
                why = f"still {seen.status} after {self.limits.change:.0f} s"
                return journal.at(Step.ROLL_BACK, self.clock.now(), why)
            try:
                self._ask(self.target.advance, deadline)
            except TunemeshError as error:
                return journal.at(Step.ROLL_BACK, self.clock.now(), str(error))
            self.clock.sleep(self.limits.poll)

    def _verify(self, journal: Journal) -> Journal:
        """Whether it does what the former version did."""
        self.report("verify")
        began, first, last = self.clock.now(), None, ""
        deadline = began + self.verify.most_seconds
        while True:
            seen, now = self._look(deadline)
            if seen.configuration != journal.wanted:
                return self._abandoned(journal, self._changed(seen, journal))
            first = first or now
            verdict = judge(journal.before, first, now, self.verify)
            looked = self.clock.now() - began
            if verdict.broken:
                return journal.at(Step.ROLL_BACK, self.clock.now(), verdict.broken)
            if verdict.well and looked >= self.verify.least_seconds:
                self.report(f"  well: {_figures(now)}")
                return journal.at(Step.PRUNE, self.clock.now())
            text = "; ".join(verdict.missing) or "well so far"
            if text != last:
                self.report(f"  {text}")
                last = text
            if looked >= self.verify.most_seconds:
                why = f"after {looked:.0f} s still {text}"
                return journal.at(Step.ROLL_BACK, self.clock.now(), why)
            self.clock.sleep(self.verify.poll_seconds)

    def _prune(self, journal: Journal) -> Journal:
        """Old snapshots go; what fails here fails no upgrade."""
        try:
            removed = snapshots.prune(self.target, journal.keep, snapshots.spared(journal))
        except TunemeshError as error:
            self.report(f"  old snapshots stay: {error}")
        else:
            if removed:
                self.report(f"  removed {len(removed)} old snapshots, {journal.keep} kept")
        return journal.at(Step.DONE, self.clock.now())

    def _roll_back(self, journal: Journal) -> Journal:
        """Back to the former configuration and the newest state that it has left."""
        self.report(f"roll back to {journal.former.release}: {journal.why}")
        deadline = self.clock.now() + self.limits.change
        last, ordered, starts, kept = None, False, 0, 0
        while True:
            seen = self.target.state()
            if (seen.status, seen.version) != last:
                self.report(f"  {seen.status}, version {seen.version}")
                last = (seen.status, seen.version)
            if seen.configuration not in (journal.former, journal.wanted):
                return self._abandoned(journal, self._changed(seen, journal))
            former = seen.configuration == journal.former and (
                seen.version > journal.base + 1 or seen.version == journal.base
            )
            back = (*RUNS, Status.READY) if journal.stopped else RUNS
            if former and seen.status in back:
                return journal.at(Step.ROLLED_BACK, self.clock.now())
            starts += former and seen.status is Status.READY
            kept += ordered and not former and seen.status in RUNS
            tried = starts > self.limits.starts or kept >= self.limits.starts
            if tried or self.clock.now() > deadline:
                why = self.target.failure(seen.version)
                raise StuckError(
                    f"{seen.name} is {seen.status} at version {seen.version}"
                    f" ({seen.configuration.release}) and could not be rolled back to"
                    f" {journal.former.release}{': ' + why if why else ''}. Its snapshots are"
                    " there: tunemesh deploy snapshots. To try again: tunemesh deploy rollback."
                    " To go on to another one: tunemesh deploy upgrade RELEASE --force"
                )
            try:
                ordered = orders.back(self.target, journal, seen, former=former, ordered=ordered)
                self.target.advance()
            except (BusyError, ConcurrentChangeError) as error:
                self.report(f"  {error}")
            self.clock.sleep(self.limits.poll)

    # What they share.

    def _new_name(self, seen: Application) -> str:
        return f"{snapshots.NAMES}{seen.version + 1}-{int(self.clock.now())}"

    def _look(self, deadline: float) -> tuple[Application, Health]:
        """The application and how it does; raises what the target says when it does not answer for
        long. Then nothing can be ordered either: whoever comes next verifies."""
        patience = min(deadline, self.clock.now() + self.limits.patience)
        while True:
            try:
                return self.target.state(), self.target.health()
            except TunemeshError:
                if self.clock.now() > patience:
                    raise
                self.clock.sleep(self.limits.poll)

    def _ask(self, call: Callable[[], None], deadline: float) -> None:
        """A call, again while the target is busy with something else."""
        patience = min(deadline, self.clock.now() + self.limits.patience)
        while True:
            try:
                return call()
            except BusyError:
                if self.clock.now() > patience:
                    raise
                self.clock.sleep(self.limits.poll)

    def _abandoned(self, journal: Journal, why: str) -> Journal:
        return journal.at(Step.ABANDONED, self.clock.now(), why)

    def _save(self, journal: Journal) -> Journal:
        journals.write(self.file, journal)
        return journal

    @staticmethod
    def _changed(seen: Application, journal: Journal) -> str:
        return (
            f"somebody else has changed {seen.name}: it is at version {seen.version}"
            f" ({seen.configuration.release}), and this upgrade began at {journal.base}"
        )


def require_upgradable(seen: Application, *, force: bool) -> None:
    """Raises UpgradeError for an application that does not run; by force it may be stopped."""
    stopped = seen.status is Status.READY
    if seen.status not in RUNS and not (force and stopped):
        raise UpgradeError(
            f"{seen.name} is {seen.status}; only a running application is upgraded."
            + (" --force changes a stopped one and starts it." if stopped else "")
            + " See: tunemesh deploy status"
        )


def _figures(health: Health) -> str:
    delivered = sum(flow.delivered for flow in health.flows.values())
    letters = sum(flow.dead_letters for flow in health.flows.values())
    return (
        f"{health.checkpoints} checkpoints, no restart, {delivered:,} delivered,"
        f" {letters:,} dead letters"
    )
