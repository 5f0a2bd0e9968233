"""Carries out a change of an application on the local cluster: a start, a stop, a replacement.

The service replaces the whole cluster with each update, and in thread mode a TaskManager keeps the
Python modules that it has loaded. So each version has TaskManagers of its own, whose path has its
release and not this checkout. A replacement starts those, and the new version's client, before the
former version is stopped; the pause is only what cannot be done earlier:

    workers of the new release, client prepared                             the former version runs
    stop with a savepoint -> former workers end -> client submits -> tasks start          the pause
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.local import flink_cluster
from deploy.local.flink import FlinkError, FlinkRest, prune_checkpoints, root_cause
from deploy.local.settings import LocalSettings
from deploy.package.errors import PackageError
from deploy.upgrades import local_deployment
from deploy.upgrades.local_deployment import LocalDeployment, LocalSnapshot, PendingChange
from deploy.upgrades.local_release import LocalRelease
from deploy.upgrades.local_workers import LocalWorkers
from deploy.upgrades.preflight import pipelines_of
from deploy.upgrades.target import SnapshotStatus, Status, TargetError

START_SECONDS = 240.0
"""For all tasks of a job to run; takes about ten on an otherwise idle machine."""

STOP_SECONDS = 300.0
POLL_SECONDS = 0.2

REFUSALS = (FlinkError, TargetError, PackageError)


class LocalChange:
    """A pending change of a deployment; :meth:`carry_out` is called once, under its lock.

    ``environ``: the environment of clients and TaskManagers, beside their own.
    """

    def __init__(
        self,
        deployment: LocalDeployment,
        pending: PendingChange,
        settings: LocalSettings,
        environ: Mapping[str, str],
        report: Callable[[str], None],
    ) -> None:
        self._deployment = deployment
        self._pending = pending
        self._settings = settings
        self._environ = environ
        self._report = report
        self._rest = FlinkRest.of(settings)
        self._workers = LocalWorkers(settings, environ)

    def carry_out(self) -> None:
        """Carry out the change and record its result.

        Raises TargetError when it could not be carried out and has changed nothing.
        """
        if self._pending.kind in ("stop", "force"):
            self._stop()
        else:
            self._replace()
        self._deployment.pending = None
        self._save()

    def _stop(self) -> None:
        deployment = self._deployment
        if deployment.job is not None and not has_ended(self._rest, deployment.job):
            if self._pending.kind == "stop":
                self._stop_with_savepoint(deployment.job, deployment.version)
            else:
                self._rest.cancel(deployment.job)
        deployment.mark_stopped()

    def _replace(self) -> None:
        """Replace the running job by one of the present version."""
        deployment, pending = self._deployment, self._pending
        if self._rest.is_running(pending.job):
            self._record_running()
            return
        release = LocalRelease(
            deployment.name, deployment.configuration, self._settings, self._environ
        )
        try:
            workers = self._workers.start(
                release.python_path(), deployment.configuration.parallelism
            )
            self._report(f"  TaskManagers of {release.configuration.release}: {', '.join(workers)}")
            former = deployment.versions[pending.former or deployment.version].properties
            has_state = pending.latest or pending.restore is not None
            restored = has_state and "enrichment" in pipelines_of(former)
            # Without a former version its TaskManagers have free slots too, and no pause matters.
            warm = deployment.job is not None and pending.kind == "update"
            submission = release.prepare_submission(restored=restored, warm=warm)
        except REFUSALS as error:
            self._keep_former(str(error))
            return
        try:
            try:
                submission.wait_ready(START_SECONDS)
            except FlinkError as error:
                self._keep_former(str(error))
                return
            if self._rest.is_running(pending.job):  # submitted by an interrupted client
                self._record_running()
                return
            stops = "" if deployment.job is None else "; the former version stops"
            self._report(f"  the client is prepared{stops}")
            savepoint = self._stop_former()
            self._workers.end_all_but(workers)
            pending.job = submission.submit(savepoint, pending.job)
            self._save()
        except REFUSALS as error:
            self._recover(str(error))
            return
        finally:
            submission.cancel()
        self._record_running()

    def _stop_former(self) -> str | None:
        """Stop the running job, if any; returns the savepoint that the new job restores."""
        deployment, pending = self._deployment, self._pending
        self._cancel_replaced()
        if deployment.job is None:
            return pending.restore
        ended = has_ended(self._rest, deployment.job)
        if pending.kind == "rollback":
            if not ended:
                self._rest.cancel(deployment.job)
            return pending.restore
        if ended:
            location = self._add_savepoint_of_ended(deployment.job)
        else:
            former = pending.former or deployment.version
            location = self._stop_with_savepoint(deployment.job, former)
        return location if pending.latest else pending.restore

    def _cancel_replaced(self) -> None:
        replaced = self._pending.replaces
        if replaced is not None and self._rest.is_running(replaced):
            self._rest.cancel(replaced)

    def _stop_with_savepoint(self, job: str, version: int) -> str:
        folder = savepoint_folder(self._settings, self._deployment.name)
        location = self._rest.stop_with_savepoint(job, folder, STOP_SECONDS)
        self._add_snapshot(location, version)
        return location

    def _add_savepoint_of_ended(self, job: str) -> str | None:
        """Add the savepoint of a job that an interrupted client has stopped; returns it."""
        answer = self._rest.call("GET", f"/jobs/{job}/checkpoints")
        location = ((answer.get("latest") or {}).get("savepoint") or {}).get("external_path")
        if not location:
            return None
        if location not in [snapshot.location for snapshot in self._deployment.snapshots]:
            self._add_snapshot(str(location), self._deployment.version - 1)
        return str(location)

    def _add_snapshot(self, location: str, version: int) -> None:
        now = time.time()
        name = f"at-stop-v{version}-{int(now)}"
        self._deployment.snapshots.append(
            LocalSnapshot(name, SnapshotStatus.READY, version, now, location)
        )
        self._save()

    def _record_running(self) -> None:
        """Wait until the new job runs and record it, or why it does not."""
        deployment, job = self._deployment, self._pending.job
        if failure := self._wait_running(job):
            deployment.failures[deployment.version] = failure
            if not self._rest.is_running(job):
                deployment.mark_stopped()
                self._workers.reap()
                return
        self._workers.reap()
        deployment.job, deployment.status = job, Status.RUNNING
        prune_checkpoints(self._settings)
        if deployment.running_version != deployment.version:
            deployment.former_version = deployment.running_version
            deployment.running_version = deployment.version

    def _wait_running(self, job: str) -> str:
        """Wait until every task runs; returns why they do not as soon as that is known.

        As on the service, a job that is restarted counts as running; verification checks more.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._rest.all_running(job):
            if (failure := self._rest.job_exception(job)) or not self._rest.is_running(job):
                return root_cause(failure) or "its job has ended"
            if time.monotonic() > deadline:
                return f"not all of its tasks run after {START_SECONDS:.0f} s"
            time.sleep(POLL_SECONDS)
        return ""

    def _recover(self, failure: str) -> None:
        """Record what runs after a failure between the order to stop and the start."""
        deployment = self._deployment
        if self._rest.is_running(self._pending.job):
            self._record_running()
        elif deployment.job is not None and self._rest.is_running(deployment.job):
            self._keep_former(failure)
        else:
            deployment.mark_stopped(root_cause(failure))
            self._workers.reap()

    def _keep_former(self, failure: str) -> None:
        """Record that the new version could not be prepared: what ran keeps running."""
        deployment = self._deployment
        self._workers.end_fresh()
        self._cancel_replaced()
        deployment.failures[deployment.version] = root_cause(failure)
        if deployment.job is None or deployment.running_version is None:
            deployment.status = Status.READY
            return
        deployment.rolled_back_from = deployment.version
        deployment.add_version(deployment.versions[deployment.running_version])
        deployment.failures[deployment.version] = root_cause(failure)
        deployment.running_version = deployment.version
        deployment.status = Status.RUNNING

    def _save(self) -> None:
        file = local_deployment.deployment_file(self._settings, self._deployment.name)
        local_deployment.write(file, self._deployment)


def has_ended(rest: FlinkRest, job: str | None) -> bool:
    """Whether no such job runs; raises TargetError if Flink does not answer."""
    try:
        return job is None or not rest.is_running(job)
    except FlinkError as error:
        raise TargetError(str(error)) from error


def savepoint_folder(settings: LocalSettings, application: str) -> Path:
    """Return the folder of an application's savepoints, creating it if necessary."""
    folder = settings.data(flink_cluster.NAME) / "savepoints" / application
    folder.mkdir(parents=True, exist_ok=True)
    return folder
