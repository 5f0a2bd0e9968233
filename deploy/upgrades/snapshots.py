"""The snapshots of an application: which are READY, which an upgrade needs, which are deleted."""

from __future__ import annotations

from deploy.upgrades.journal import Journal, Step
from deploy.upgrades.target import Snapshot, SnapshotStatus, Target

NAME_PREFIX = "before-v"
"""Prefix of the names of snapshots that upgrades create."""


def list_ready(target: Target) -> list[Snapshot]:
    """Return the snapshots that can be restored, the oldest first."""
    return [
        snapshot for snapshot in target.list_snapshots() if snapshot.status is SnapshotStatus.READY
    ]


def find(target: Target, name: str) -> Snapshot | None:
    """Return the snapshot of that name."""
    return next((s for s in target.list_snapshots() if s.name == name), None)


def names_for_rollback(journal: Journal | None) -> set[str]:
    """Return the names of the snapshots that a rollback of this upgrade may need."""
    if journal is None or journal.step in (Step.ROLLED_BACK, Step.ABANDONED):
        return set()
    restored = journal.restore.snapshot if journal.forced else None
    return {name for name in (journal.snapshot, restored) if name}


def prune(target: Target, keep: int, needed: set[str]) -> list[Snapshot]:
    """Start to delete all but the newest ``keep`` snapshots and those needed; returns them."""
    ready, deleted = list_ready(target), []
    for snapshot in ready[: max(0, len(ready) - keep)]:
        if snapshot.name not in needed:
            target.delete_snapshot(snapshot)
            deleted.append(snapshot)
    return deleted
