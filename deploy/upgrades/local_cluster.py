"""The local cluster as a target: Flink's REST API, and releases unpacked to folders.

Changes are recorded as pending (:mod:`deploy.upgrades.local_deployment`);
:meth:`LocalCluster.advance`, called by any client, carries them out
(:mod:`deploy.upgrades.local_change`).
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy.local.flink import FlinkError, FlinkRest, root_cause
from deploy.local.settings import LocalSettings
from deploy.upgrades import local_deployment
from deploy.upgrades.local_change import START_SECONDS, LocalChange, has_ended, savepoint_folder
from deploy.upgrades.local_deployment import LocalDeployment, LocalSnapshot, PendingChange
from deploy.upgrades.local_health import read_health
from deploy.upgrades.local_release import LocalRelease
from deploy.upgrades.releases import check_release, unpack_release
from deploy.upgrades.target import (
    RUNNING_STATUSES,
    TRANSITIONAL_STATUSES,
    Application,
    BusyError,
    ConcurrentChangeError,
    Configuration,
    Health,
    NoApplicationError,
    Restore,
    RestoreKind,
    Snapshot,
    SnapshotStatus,
    Status,
    TargetError,
)

_STATUS_BY_CHANGE = {
    "start": Status.STARTING,
    "update": Status.UPDATING,
    "rollback": Status.ROLLING_BACK,
    "stop": Status.STOPPING,
    "force": Status.FORCE_STOPPING,
}


class LocalCluster:
    """An application on the local cluster (:class:`deploy.upgrades.target.Target`).

    ``environ``: the environment of clients and TaskManagers, beside their own.
    """

    kind = "local"

    def __init__(
        self,
        name: str,
        settings: LocalSettings,
        environ: Mapping[str, str],
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._environ = environ
        self._report = report
        self._rest = FlinkRest.of(settings)
        self._file = local_deployment.deployment_file(settings, name)
        self._releases = settings.home / "releases"

    # Reading.

    def describe(self) -> Application:
        """Return the application's present state."""
        deployment = self._read()
        running = deployment.pending is None and deployment.status in RUNNING_STATUSES
        if running and has_ended(self._rest, deployment.job):
            deployment.mark_stopped(self._end_reason(deployment.job))
            local_deployment.write(self._file, deployment)
        return Application(
            name=self.name,
            status=deployment.status,
            version=deployment.version,
            configuration=deployment.configuration,
            token=str(deployment.version),
            rolled_back_from=deployment.rolled_back_from,
        )

    def describe_version(self, number: int) -> Configuration:
        """Return a version by its number."""
        try:
            return self._read().versions[number]
        except KeyError:
            raise TargetError(f"{self.name} has no version {number}") from None

    def find_files(self, release: str) -> Path | None:
        """Return the folder of a release; raises ContentError if its files were changed."""
        folder = self._releases / release
        return check_release(folder) if folder.is_dir() else None

    def check(self, configuration: Configuration, release: Path) -> None:
        """Check that the release is for this Python, that no other job uses the cluster, and that
        the release's client compiles the plan with these settings."""
        unpack_release(self._releases, configuration.release, release)
        local = LocalRelease(self.name, configuration, self._settings, self._environ)
        local.check_python()
        running = self._rest.running_jobs()
        own = local_deployment.read(self._file)
        others = [job for job in running if own is None or job.id != own.job]
        if others:
            raise TargetError(
                f"the job {others[0].id} ({others[0].name}) runs on this cluster, and"
                f" {self.name} needs all of its TaskManagers. Stop it first, for instance:"
                " tunemesh down flink; tunemesh up flink"
            )
        submission = local.prepare_submission(restored=False, warm=False)
        try:
            submission.wait_ready(START_SECONDS)
        except FlinkError as error:
            raise TargetError(
                f"{configuration.release} does not compile with these settings: {error}"
            ) from error
        finally:
            submission.cancel()

    def list_snapshots(self) -> tuple[Snapshot, ...]:
        """Return all snapshots, after reading the status of unfinished ones from Flink."""
        deployment = self._read()
        if any(s.status is SnapshotStatus.CREATING for s in deployment.snapshots):
            with self._edit() as deployment:
                for snapshot in deployment.snapshots:
                    if snapshot.status is SnapshotStatus.CREATING:
                        self._update_snapshot(snapshot)
        return tuple(Snapshot(s.name, s.status, s.version, s.created) for s in deployment.snapshots)

    def describe_failure(self, version: int) -> str:
        """Return why a version did not start."""
        return self._read().failures.get(version, "")

    def read_health(self) -> Health:
        """Return the health by Flink's REST API and Kafka's offsets."""
        job = self._read().job
        if job is None or has_ended(self._rest, job):
            return Health(running=False, restarts=0, checkpoints=0)
        return read_health(self._rest, self._settings, job)

    # Orders.

    def create(self, configuration: Configuration, release: Path) -> None:
        """Record a new application."""
        with self._lock():
            if local_deployment.read(self._file) is not None:
                raise BusyError(f"the application {self.name} already exists")
            unpack_release(self._releases, configuration.release, release)
            local_deployment.write(self._file, LocalDeployment(self.name, {1: configuration}))

    def start(self, restore: Restore) -> None:
        """Order the start of a READY application."""
        with self._edit() as deployment:
            self._require(deployment, Status.READY)
            location = self._savepoint_location(deployment, restore)
            self._order(deployment, PendingChange("start", uuid.uuid4().hex, location))

    def stop(self, *, force: bool) -> None:
        """Order a stop."""
        with self._edit() as deployment:
            self._require(deployment, *RUNNING_STATUSES)
            kind = "force" if force else "stop"
            self._order(deployment, PendingChange(kind, "", former=deployment.version))

    def update(
        self,
        base: Application,
        configuration: Configuration,
        release: Path | None,
        restore: Restore,
    ) -> None:
        """Order the next version."""
        with self._edit() as deployment:
            self._require_unchanged(deployment, base)
            self._require(deployment, Status.READY, *RUNNING_STATUSES)
            if release is not None:
                unpack_release(self._releases, configuration.release, release)
            running, former = deployment.status in RUNNING_STATUSES, deployment.version
            latest = running and restore.kind is RestoreKind.LATEST
            location = None if latest else self._savepoint_location(deployment, restore)
            deployment.rolled_back_from = None
            deployment.add_version(configuration)
            if running:
                self._order(
                    deployment,
                    PendingChange("update", uuid.uuid4().hex, location, latest, former),
                )

    def roll_back(self, base: Application) -> None:
        """Order the return to the version that ran before, with the last snapshot."""
        with self._edit() as deployment:
            self._require_unchanged(deployment, base)
            self._require(deployment, Status.UPDATING, Status.RUNNING)
            updating = deployment.status is Status.UPDATING
            former = deployment.running_version if updating else deployment.former_version
            ready = deployment.ready_snapshots
            if former is None or not ready:
                raise TargetError(f"{self.name} has no former version, or no snapshot of it")
            deployment.rolled_back_from = deployment.version
            deployment.add_version(deployment.versions[former])
            replaced = deployment.pending.job if deployment.pending is not None else None
            change = PendingChange(
                "rollback", uuid.uuid4().hex, ready[-1].location, False, former, replaced
            )
            self._order(deployment, change)

    def create_snapshot(self, name: str) -> None:
        """Start a savepoint of the running job, which continues."""
        with self._edit() as deployment:
            self._require(deployment, *RUNNING_STATUSES)
            if any(s.name == name for s in deployment.snapshots):
                raise BusyError(f"the snapshot {name} already exists")
            assert deployment.job is not None
            folder = savepoint_folder(self._settings, self.name)
            request = self._rest.trigger_savepoint(deployment.job, folder)
            deployment.snapshots.append(
                LocalSnapshot(
                    name,
                    SnapshotStatus.CREATING,
                    deployment.version,
                    time.time(),
                    job=deployment.job,
                    request=request,
                )
            )

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Remove a savepoint."""
        with self._edit() as deployment:
            for saved in [s for s in deployment.snapshots if s.name == snapshot.name]:
                if saved.location is not None:
                    shutil.rmtree(saved.location.removeprefix("file:"), ignore_errors=True)
                deployment.snapshots.remove(saved)

    def advance(self) -> None:
        """Carry out the pending change; returns when that is done."""
        if self._read().pending is None:
            return
        with self._lock():
            deployment = self._read()
            if deployment.pending is not None:
                LocalChange(
                    deployment, deployment.pending, self._settings, self._environ, self._report
                ).carry_out()

    # What they share.

    def _read(self) -> LocalDeployment:
        deployment = local_deployment.read(self._file)
        if deployment is None:
            raise NoApplicationError(
                f"the cluster has no application {self.name}; `tunemesh deploy submit` creates one"
            )
        return deployment

    @contextlib.contextmanager
    def _edit(self) -> Iterator[LocalDeployment]:
        """Hold the lock and yield the record, which is written at the end."""
        with self._lock():
            deployment = self._read()
            yield deployment
            local_deployment.write(self._file, deployment)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the record; raises BusyError if another client holds it."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(f"another tunemesh is changing {self.name}") from None
            yield

    def _order(self, deployment: LocalDeployment, change: PendingChange) -> None:
        deployment.pending, deployment.status = change, _STATUS_BY_CHANGE[change.kind]

    def _require(self, deployment: LocalDeployment, *allowed: Status) -> None:
        if deployment.status not in allowed:
            error = BusyError if deployment.status in TRANSITIONAL_STATUSES else TargetError
            raise error(f"{self.name} is {deployment.status}")

    def _require_unchanged(self, deployment: LocalDeployment, base: Application) -> None:
        if (base.version, base.token) != (deployment.version, str(deployment.version)):
            raise ConcurrentChangeError(
                f"{self.name} is at version {deployment.version}, no longer at {base.version}"
            )

    def _savepoint_location(self, deployment: LocalDeployment, restore: Restore) -> str | None:
        ready = deployment.ready_snapshots
        if restore.kind is RestoreKind.NOTHING:
            return None
        if restore.kind is RestoreKind.LATEST:
            return ready[-1].location if ready else None
        for snapshot in ready:
            if snapshot.name == restore.snapshot:
                return snapshot.location
        raise TargetError(f"{self.name} has no snapshot {restore.snapshot} that is READY")

    def _update_snapshot(self, snapshot: LocalSnapshot) -> None:
        """Read the status of an unfinished savepoint from Flink."""
        assert snapshot.job is not None
        assert snapshot.request is not None
        try:
            snapshot.location = self._rest.savepoint_location(snapshot.job, snapshot.request)
        except FlinkError:
            snapshot.status = SnapshotStatus.FAILED  # or the job has ended, and its request with it
        else:
            if snapshot.location is not None:
                snapshot.status = SnapshotStatus.READY

    def _end_reason(self, job: str | None) -> str:
        try:
            return root_cause(self._rest.job_exception(job or "")) or "its job has ended"
        except FlinkError:
            return "Flink was restarted and no longer has its job"
