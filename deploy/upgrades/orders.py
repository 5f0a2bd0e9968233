"""Gives the target its next order, depending on the application's state; does not wait."""

from __future__ import annotations

from pathlib import Path

from deploy.upgrades import snapshots
from deploy.upgrades.journal import Journal
from deploy.upgrades.target import (
    RUNNING_STATUSES,
    Application,
    Restore,
    RestoreKind,
    Status,
    Target,
)
from schemas.errors import TunemeshError


class StuckError(TunemeshError):
    """The application has neither the new nor the former version; the message has next steps."""

    exit_code = 5


def replace_by_force(target: Target, journal: Journal, application: Application) -> None:
    """Continue towards the new version without a snapshot: stop by force, update, start."""
    if application.status in RUNNING_STATUSES:
        target.stop(force=True)
    elif application.status is Status.READY and application.version > journal.base:
        target.start(journal.restore)
    elif application.status is Status.READY:
        release = None if journal.release is None else Path(journal.release)
        target.update(application, journal.wanted, release, journal.restore)


def restore_former(
    target: Target, journal: Journal, application: Application, *, former: bool, ordered: bool
) -> bool:
    """Continue towards the former version; returns whether the target's own rollback is ordered.

    ``former``: the application has the former version's configuration already. Raises StuckError
    before anything is stopped if there is no state to restore.
    """
    if former and application.status is Status.READY:
        target.start(_former_state(target, journal))
    elif application.status is Status.READY:
        target.update(application, journal.former, None, _former_state(target, journal))
    elif application.status in (Status.UPDATING, Status.AUTOSCALING):
        if not former and not ordered:
            target.roll_back(application)
        return True
    elif application.status in RUNNING_STATUSES:
        ready = snapshots.list_ready(target)
        if ready and ready[-1].version == journal.base:
            target.roll_back(application)
            return True
        # The target's own rollback would restore the last snapshot, which is another version's.
        _former_state(target, journal)
        target.stop(force=True)
    return ordered


def _former_state(target: Target, journal: Journal) -> Restore:
    """Return the newest snapshot of the former version: the one created when it was stopped, else
    the upgrade's own; after a forced stop without a snapshot, what the new version started from.
    """
    candidates = [s for s in snapshots.list_ready(target) if s.version == journal.base]
    if candidates:
        return Restore(RestoreKind.CUSTOM, candidates[-1].name)
    if journal.forced:
        return journal.restore
    raise StuckError(
        f"no snapshot of version {journal.base} ({journal.former.release}) exists any more, so it"
        " cannot be rolled back to with its state. To start it from the topics: tunemesh deploy"
        " upgrade RELEASE --force --rebuild"
    )
