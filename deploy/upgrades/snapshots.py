"""Snapshots as upgrades need them: which there are, which are needed, which may go."""

from __future__ import annotations

from deploy.upgrades.journal import Journal, Step
from deploy.upgrades.target import Snapshot, SnapshotStatus, Target

NAMES = "before-v"
"""How the names of the snapshots begin that are made before an upgrade."""


def ready(target: Target) -> list[Snapshot]:
    """Those that can be restored, the oldest first."""
    return [one for one in target.snapshots() if one.status is SnapshotStatus.READY]


def named(target: Target, name: str) -> Snapshot | None:
    """The one of that name."""
    return next((one for one in target.snapshots() if one.name == name), None)


def spared(journal: Journal | None) -> set[str]:
    """The snapshots that a rollback of this upgrade may need."""
    if journal is None or journal.step in (Step.ROLLED_BACK, Step.ABANDONED):
        return set()
    restored = journal.restore.snapshot if journal.forced else None
    return {name for name in (journal.snapshot, restored) if name}


def prune(target: Target, keep: int, spared: set[str]) -> list[Snapshot]:
    """Begin to delete all but the newest ``keep`` snapshots and those spared; returns them."""
    found, removed = ready(target), []
    for one in found[: max(0, len(found) - keep)]:
        if one.name not in spared:
            target.delete_snapshot(one)
            removed.append(one)
    return removed
