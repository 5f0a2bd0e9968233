"""The next order to a target, by what the application is now; nothing is waited for here."""

from __future__ import annotations

from pathlib import Path

from deploy.upgrades import snapshots
from deploy.upgrades.journal import Journal
from deploy.upgrades.target import RUNS, Application, Restore, RestoreKind, Status, Target
from schemas.errors import TunemeshError


class StuckError(TunemeshError):
    """The application is neither at the new version nor at the former one; says what to do."""

    exit_code = 5


def by_force(target: Target, journal: Journal, seen: Application) -> None:
    """To the new version without a snapshot: stopped, changed while it is stopped, started."""
    if seen.status in RUNS:
        target.stop(force=True)
    elif seen.status is Status.READY and seen.version > journal.base:
        target.start(journal.restore)
    elif seen.status is Status.READY:
        release = None if journal.release is None else Path(journal.release)
        target.update(seen, journal.wanted, release, journal.restore)


def back(
    target: Target, journal: Journal, seen: Application, *, former: bool, ordered: bool
) -> bool:
    """To the former version; returns whether the target's own rollback has been ordered.

    ``former``: it has the former version's configuration already. Raises StuckError where there is
    no state to go back to, before anything is stopped.
    """
    if former and seen.status is Status.READY:
        target.start(_former_state(target, journal))
    elif seen.status is Status.READY:
        target.update(seen, journal.former, None, _former_state(target, journal))
    elif seen.status in (Status.UPDATING, Status.AUTOSCALING):
        if not former and not ordered:
            target.rollback(seen)
        return True
    elif seen.status in RUNS:
        ready = snapshots.ready(target)
        if ready and ready[-1].version == journal.base:
            target.rollback(seen)
            return True
        # The target's own rollback would take the last snapshot, which is another version's.
        _former_state(target, journal)
        target.stop(force=True)
    return ordered


def _former_state(target: Target, journal: Journal) -> Restore:
    """The former version's newest snapshot: the one made when it was stopped, else ours; where it
    had to be left without one, what its successor went on from."""
    made = [one for one in snapshots.ready(target) if one.version == journal.base]
    if made:
        return Restore(RestoreKind.CUSTOM, made[-1].name)
    if journal.forced:
        return journal.restore
    raise StuckError(
        f"there is no snapshot of version {journal.base} ({journal.former.release}) any more:"
        " without its state it cannot be gone back to. To start it from the topics: tunemesh"
        " deploy upgrade RELEASE --force --rebuild"
    )
