"""The checkpoints of a job on a stage's cluster."""

from __future__ import annotations

from deploy.local import flink_cluster
from deploy.local.flink import FlinkRest
from deploy.local.settings import LocalSettings
from tests.support.waiting import wait_until


def wait_checkpoint(rest: FlinkRest, job: str, seconds: float = 120.0) -> None:
    """Return when another checkpoint has completed."""
    before = rest.completed_checkpoints(job)
    wait_until(lambda: rest.completed_checkpoints(job) > before, "a checkpoint completes", seconds)


def find_latest_checkpoint(settings: LocalSettings) -> str | None:
    """Return the location of the newest complete checkpoint of any job; None without one."""
    files = (settings.data(flink_cluster.NAME) / "checkpoints").glob("*/chk-*/_metadata")
    newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parent.as_uri()
