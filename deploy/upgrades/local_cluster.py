"""The laptop's standalone cluster as a target: Flink's REST API, releases unpacked to folders.

The service replaces the whole cluster with each update, and in thread mode a TaskManager keeps the
Python modules that it has loaded. So a version has TaskManagers of its own, with its release on
their path and no checkout. An update starts those, and the new version's client, before the former
version is stopped; the pause is then what cannot be done before:

    workers of the new release, client prepared and held      the former version runs
    stop with a savepoint -> former workers end -> client goes on -> tasks start       the pause

Orders are only noted (:mod:`deploy.upgrades.deployment`); :meth:`LocalCluster.advance` carries them
out, whoever calls it.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy.local.flink import FlinkError, FlinkRest
from deploy.local.settings import LocalSettings
from deploy.package import PackageError
from deploy.upgrades import deployment as deployments
from deploy.upgrades.deployment import Deployment, Pending, TakenSnapshot
from deploy.upgrades.local_health import health_of, reason
from deploy.upgrades.local_release import LocalRelease
from deploy.upgrades.local_workers import LocalWorkers
from deploy.upgrades.preflight import pipelines_of
from deploy.upgrades.releases import unpack_release
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

RUNNING_SECONDS = 240.0
"""For all tasks of a job to run; some ten on a machine with nothing else to do."""

STOP_SECONDS = 300.0
POLL_SECONDS = 0.2

REFUSALS = (FlinkError, TargetError, PackageError)

_ORDERED = {
    "start": Status.STARTING,
    "update": Status.UPDATING,
    "rollback": Status.ROLLING_BACK,
    "stop": Status.STOPPING,
    "force": Status.FORCE_STOPPING,
}


class LocalCluster:
    """An application on the laptop's cluster (:class:`deploy.upgrades.target.Target`).

    ``environ``: the environment that clients and TaskManagers get beside their own.
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
        self._file = deployments.file_of(settings, name)
        self._releases = settings.home / "releases"

    # What there is.

    def describe(self) -> Application:
        """The application now."""
        found = self._found()
        if found.pending is None and found.status in RUNNING_STATUSES and self._gone(found):
            found.failures[found.version] = self._why_ended(found.job)
            found.status, found.job = Status.READY, None
            deployments.write(self._file, found)
        return Application(
            name=self.name,
            status=found.status,
            version=found.version,
            configuration=found.configuration,
            token=str(found.version),
            rolled_back_from=found.rolled_back_from,
        )

    def describe_version(self, number: int) -> Configuration:
        """A version by its number."""
        try:
            return self._found().versions[number]
        except KeyError:
            raise TargetError(f"{self.name} has no version {number}") from None

    def find_files(self, release: str) -> Path | None:
        """The folder of a release."""
        folder = self._releases / release
        return folder if folder.is_dir() else None

    def check(self, configuration: Configuration, release: Path) -> None:
        """That the release is for this Python, that nothing else has the cluster, and that its
        client compiles the plan with these settings: what it would say then, it says now."""
        unpack_release(self._releases, configuration.release, release)
        self._release(configuration).check_python()
        running = self._rest.running_jobs()
        own = deployments.read(self._file)
        others = [job for job in running if own is None or job.id != own.job]
        if others:
            raise TargetError(
                f"the job {others[0].id} ({others[0].name}) runs on this cluster, and"
                f" {self.name} needs all of its TaskManagers. Stop it first, for instance:"
                " tunemesh down flink; tunemesh up flink"
            )
        client = self._release(configuration).client(restored=False, warm=False)
        try:
            client.ready(RUNNING_SECONDS)
        except FlinkError as error:
            raise TargetError(
                f"{configuration.release} does not compile with these settings: {error}"
            ) from error
        finally:
            client.call_off()

    # Orders.

    def create(self, configuration: Configuration, release: Path) -> None:
        """Note a new application."""
        with self._locked():
            if deployments.read(self._file) is not None:
                raise BusyError(f"{self.name} is there already")
            unpack_release(self._releases, configuration.release, release)
            deployments.write(self._file, Deployment(self.name, {1: configuration}))

    def start(self, restore: Restore) -> None:
        """Order the start of a READY application."""
        with self._changing() as found:
            self._require(found, Status.READY)
            address = self._address(found, restore)
            self._order(found, Pending("start", uuid.uuid4().hex, address))

    def stop(self, *, force: bool) -> None:
        """Order a stop."""
        with self._changing() as found:
            self._require(found, *RUNNING_STATUSES)
            kind = "force" if force else "stop"
            self._order(found, Pending(kind, "", former=found.version))

    def update(
        self,
        base: Application,
        configuration: Configuration,
        release: Path | None,
        restore: Restore,
    ) -> None:
        """Order the next version."""
        with self._changing() as found:
            self._require_unchanged(found, base)
            self._require(found, Status.READY, *RUNNING_STATUSES)
            if release is not None:
                unpack_release(self._releases, configuration.release, release)
            running, former = found.status in RUNNING_STATUSES, found.version
            address = None
            if not (running and restore.kind is RestoreKind.LATEST):
                address = self._address(found, restore)
            found.rolled_back_from = None
            found.next_version(configuration)
            if running:
                latest = restore.kind is RestoreKind.LATEST
                pending = Pending("update", uuid.uuid4().hex, address, latest, former)
                self._order(found, pending)

    def roll_back(self, base: Application) -> None:
        """Order the way back to the version that ran before, with the last snapshot."""
        with self._changing() as found:
            self._require_unchanged(found, base)
            self._require(found, Status.UPDATING, Status.RUNNING)
            updating = found.status is Status.UPDATING
            former = found.running_version if updating else found.former_version
            if former is None or not _ready(found):
                raise TargetError(f"{self.name} has no former version, or no snapshot of it")
            found.rolled_back_from = found.version
            found.next_version(found.versions[former])
            address = _ready(found)[-1].location
            replaced = found.pending.job if found.pending is not None else None
            pending = Pending("rollback", uuid.uuid4().hex, address, False, former, replaced)
            self._order(found, pending)

    def create_snapshot(self, name: str) -> None:
        """Begin a savepoint of the running job, which goes on."""
        with self._changing() as found:
            self._require(found, *RUNNING_STATUSES)
            if any(one.name == name for one in found.snapshots):
                raise BusyError(f"there is a snapshot {name} already")
            assert found.job is not None
            folder = self._savepoints()
            answer = self._rest.call(
                "POST",
                f"/jobs/{found.job}/savepoints",
                {"target-directory": folder.as_uri(), "cancel-job": False},
            )
            made = TakenSnapshot(name, SnapshotStatus.CREATING, found.version, time.time())
            made.job, made.request = found.job, str(answer["request-id"])
            found.snapshots.append(made)

    def list_snapshots(self) -> tuple[Snapshot, ...]:
        """All of them; one that is being made is asked for."""
        found = self._found()
        if any(one.status is SnapshotStatus.CREATING for one in found.snapshots):
            with self._changing() as found:
                for one in found.snapshots:
                    if one.status is SnapshotStatus.CREATING:
                        self._look_at(one)
        return tuple(
            Snapshot(one.name, one.status, one.version, one.created) for one in found.snapshots
        )

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Remove a savepoint."""
        with self._changing() as found:
            for one in [one for one in found.snapshots if one.name == snapshot.name]:
                if one.location is not None:
                    shutil.rmtree(_folder(one.location), ignore_errors=True)
                found.snapshots.remove(one)

    def describe_failure(self, version: int) -> str:
        """Why a version did not start."""
        return self._found().failures.get(version, "")

    def read_health(self) -> Health:
        """By Flink's REST API and Kafka's offsets."""
        found = self._found()
        if found.job is None or self._gone(found):
            return Health(running=False, restarts=0, checkpoints=0)
        return health_of(self._rest, self._settings, found.job)

    # Carrying out.

    def advance(self) -> None:
        """Carry out what was ordered; returns when it is done. Raises TargetError when the order
        itself could not be carried out and nothing was changed by it."""
        if self._found().pending is None:
            return
        with self._locked():
            found = self._found()
            if found.pending is None:
                return
            if found.pending.kind in ("stop", "force"):
                self._stop(found, found.pending)
            else:
                self._replace(found, found.pending)
            found.pending = None
            deployments.write(self._file, found)

    def _stop(self, found: Deployment, pending: Pending) -> None:
        if not self._gone(found):
            assert found.job is not None
            if pending.kind == "stop":
                self._stop_with_savepoint(found, found.version)
            else:
                self._rest.cancel(found.job)
        found.status, found.job = Status.READY, None

    def _replace(self, found: Deployment, pending: Pending) -> None:
        """The present version's job in the place of what runs."""
        workers = LocalWorkers(self._settings, self._environ)
        if self._alive(pending.job):
            self._runs(found, pending, workers)
            return
        release = self._release(found.configuration)
        try:
            fresh = workers.start(release.python_path(), found.configuration.parallelism)
            self._report(f"  TaskManagers of {found.configuration.release}: {', '.join(fresh)}")
            former = found.versions[pending.former or found.version].properties
            has_state = pending.latest or pending.restore is not None
            restored = has_state and "enrichment" in pipelines_of(former)
            # Without a former version its TaskManagers have free slots, too; and nobody waits.
            warm = found.job is not None and pending.kind == "update"
            client = release.client(restored=restored, warm=warm)
        except REFUSALS as error:
            self._kept(found, pending, workers, str(error))
            return
        try:
            try:
                client.ready(RUNNING_SECONDS)
            except FlinkError as error:
                self._kept(found, pending, workers, str(error))
                return
            if self._alive(pending.job):  # submitted by a client that is gone
                self._runs(found, pending, workers)
                return
            self._report("  the client is prepared; the former version stops")
            savepoint = self._stopped(found, pending)
            workers.end_all_but(fresh)
            pending.job = client.go(savepoint, pending.job)
            deployments.write(self._file, found)
        except REFUSALS as error:
            self._broken_off(found, pending, workers, str(error))
            return
        finally:
            client.call_off()
        self._runs(found, pending, workers)

    def _stopped(self, found: Deployment, pending: Pending) -> str | None:
        """End what runs, if anything does; the savepoint to go on from."""
        if pending.replaces is not None and self._alive(pending.replaces):
            self._rest.cancel(pending.replaces)
        if found.job is None:
            return pending.restore
        if pending.kind == "rollback":
            if not self._gone(found):
                self._rest.cancel(found.job)
            return pending.restore
        if self._gone(found):
            location = self._last_savepoint(found)
        else:
            location = self._stop_with_savepoint(found, pending.former or found.version)
        return location if pending.latest else pending.restore

    def _stop_with_savepoint(self, found: Deployment, version: int) -> str:
        assert found.job is not None
        location = self._rest.stop_with_savepoint(found.job, self._savepoints(), STOP_SECONDS)
        self._keep(found, location, version)
        return location

    def _last_savepoint(self, found: Deployment) -> str | None:
        """Of a job that has been stopped by a client that is gone."""
        made = self._rest.call("GET", f"/jobs/{found.job}/checkpoints")
        location = ((made.get("latest") or {}).get("savepoint") or {}).get("external_path")
        if location and location not in [one.location for one in found.snapshots]:
            self._keep(found, str(location), found.version - 1)
        return str(location) if location else None

    def _keep(self, found: Deployment, location: str, version: int) -> None:
        name = f"at-stop-v{version}-{int(time.time())}"
        found.snapshots.append(
            TakenSnapshot(name, SnapshotStatus.READY, version, time.time(), location)
        )
        deployments.write(self._file, found)

    def _runs(self, found: Deployment, pending: Pending, workers: LocalWorkers) -> None:
        if why := self._wait_running(pending.job):
            found.failures[found.version] = why
            if not self._alive(pending.job):
                found.status, found.job = Status.READY, None
                workers.reap()
                return
        workers.reap()
        found.job, found.status = pending.job, Status.RUNNING
        if found.running_version != found.version:
            found.former_version = found.running_version
            found.running_version = found.version

    def _wait_running(self, job: str) -> str:
        """Wait until all of a job runs; why it does not, as soon as that is known. As the service
        has it, one that is restarted counts as running: verification looks closer."""
        deadline = time.monotonic() + RUNNING_SECONDS
        while not self._rest.all_running(job):
            if (failure := self._rest.job_exception(job)) or not self._alive(job):
                return reason(failure) or "its job has ended"
            if time.monotonic() > deadline:
                return f"not all of its tasks run after {RUNNING_SECONDS:.0f} s"
            time.sleep(POLL_SECONDS)
        return ""

    def _broken_off(
        self, found: Deployment, pending: Pending, workers: LocalWorkers, why: str
    ) -> None:
        """Something failed between the order to stop and the start: what runs now is asked."""
        if self._alive(pending.job):
            self._runs(found, pending, workers)
        elif found.job is not None and self._alive(found.job):
            self._kept(found, pending, workers, why)
        else:
            found.failures[found.version] = reason(why)
            found.status, found.job = Status.READY, None
            workers.reap()

    def _kept(self, found: Deployment, pending: Pending, workers: LocalWorkers, why: str) -> None:
        """The new version could not be prepared: nothing was stopped, and what ran runs on."""
        workers.end_fresh()
        if pending.replaces is not None and self._alive(pending.replaces):
            self._rest.cancel(pending.replaces)
        found.failures[found.version] = reason(why)
        if found.job is None or found.running_version is None:
            found.status = Status.READY
            return
        found.rolled_back_from = found.version
        found.next_version(found.versions[found.running_version])
        found.failures[found.version] = reason(why)
        found.running_version = found.version
        found.status = Status.RUNNING

    # What they share.

    def _found(self) -> Deployment:
        found = deployments.read(self._file)
        if found is None:
            raise NoApplicationError(
                f"there is no application {self.name} on this cluster; `tunemesh deploy submit`"
                " makes one"
            )
        return found

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Deployment]:
        """The application, written back at the end."""
        with self._locked():
            found = self._found()
            yield found
            deployments.write(self._file, found)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One client at a time; another one is told so."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(f"another tunemesh is changing {self.name}") from None
            yield

    def _order(self, found: Deployment, pending: Pending) -> None:
        found.pending, found.status = pending, _ORDERED[pending.kind]

    def _require(self, found: Deployment, *allowed: Status) -> None:
        if found.status not in allowed:
            error = BusyError if found.status in TRANSITIONAL_STATUSES else TargetError
            raise error(f"{self.name} is {found.status}")

    def _require_unchanged(self, found: Deployment, base: Application) -> None:
        if (base.version, base.token) != (found.version, str(found.version)):
            raise ConcurrentChangeError(
                f"{self.name} is at version {found.version}, not at {base.version} any more"
            )

    def _address(self, found: Deployment, restore: Restore) -> str | None:
        ready = _ready(found)
        if restore.kind is RestoreKind.NOTHING:
            return None
        if restore.kind is RestoreKind.LATEST:
            return ready[-1].location if ready else None
        for one in ready:
            if one.name == restore.snapshot:
                return one.location
        raise TargetError(f"{self.name} has no snapshot {restore.snapshot} that is READY")

    def _release(self, configuration: Configuration) -> LocalRelease:
        return LocalRelease(self.name, configuration, self._releases, self._settings, self._environ)

    def _savepoints(self) -> Path:
        folder = self._settings.data("flink") / "savepoints" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _look_at(self, one: TakenSnapshot) -> None:
        try:
            answer = self._rest.call("GET", f"/jobs/{one.job}/savepoints/{one.request}")
        except FlinkError:
            one.status = SnapshotStatus.FAILED  # the job is gone, and the request with it
            return
        if answer["status"]["id"] == "COMPLETED":
            location = answer["operation"].get("location")
            one.location = location
            one.status = SnapshotStatus.READY if location else SnapshotStatus.FAILED

    def _alive(self, job: str) -> bool:
        return any(one.id == job for one in self._rest.running_jobs())

    def _gone(self, found: Deployment) -> bool:
        try:
            return found.job is None or not self._alive(found.job)
        except FlinkError as error:
            raise TargetError(str(error)) from error

    def _why_ended(self, job: str | None) -> str:
        try:
            return reason(self._rest.job_exception(job or "")) or "its job has ended"
        except FlinkError:
            return "Flink was started anew and does not know its job"


def _ready(found: Deployment) -> list[TakenSnapshot]:
    return [one for one in found.snapshots if one.status is SnapshotStatus.READY]


def _folder(location: str) -> Path:
    return Path(location.removeprefix("file:"))
