"""A small Managed Flink: the application, snapshot and operation rules of kinesisanalyticsv2.

Rules from the API reference (2018-05-23) and the developer guide ("System rollbacks", "Manage
application backups using snapshots"). Nothing runs in it: how a code file does is scripted
(`records.Behaviour`). Time is the number of looks: a change or a snapshot is complete after so many
Describe and List calls, so tests are slow in the service's way and quick in theirs.
"""

from __future__ import annotations

import copy
import time
import uuid
from collections import deque
from collections.abc import Callable

from emulators.managed_flink import records
from emulators.managed_flink.records import (
    Answer,
    App,
    Behaviour,
    Fault,
    Operation,
    Refusal,
    Snapshot,
)

MOST_SNAPSHOTS = 1_000


class Service:
    """All applications of an account."""

    def __init__(self, looks: int = 2) -> None:
        self.looks = looks
        self.apps: dict[str, App] = {}
        self.behaviours: dict[str, Behaviour] = {}
        """By the end of a code file's key; everything else runs."""
        self.faults: deque[Fault] = deque()
        self.calls: list[tuple[str, Answer]] = []
        self.object_exists: Callable[[str, str], bool] = lambda bucket, key: True
        self.started: Callable[[App, Behaviour], None] = lambda app, behaviour: None
        """Told whenever an application begins to run."""
        self._tick = 0
        self._last = 0.0

    # Calls.

    def answer(self, operation: str, body: Answer) -> Answer:
        """The answer of an operation; raises Refusal."""
        self.calls.append((operation, copy.deepcopy(body)))
        fault = next((f for f in self.faults if f.operation == operation), None)
        if fault is not None:
            self.faults.remove(fault)
            if not fault.after:
                raise Refusal(fault.code, "Rate exceeded")
        handler = getattr(self, "_" + operation, None)
        if handler is None:
            raise Refusal("UnsupportedOperationException", f"{operation} is not offered")
        if operation.startswith(("Describe", "List")):
            self._look()
        result: Answer = handler(body)
        if fault is not None:
            raise Refusal(fault.code, "Internal failure")
        return result

    def called(self, operation: str) -> list[Answer]:
        """The bodies of an operation's calls so far."""
        return [body for name, body in self.calls if name == operation]

    def _look(self) -> None:
        self._tick += 1
        for app in self.apps.values():
            for snapshot in [s for s in app.snapshots if s.due <= self._tick]:
                if snapshot.status == "CREATING":
                    failing = Behaviour.FAILS is self.behaviours.get("snapshots") or (
                        self._behaviour(app) is Behaviour.LOOPS
                    )
                    snapshot.status = "FAILED" if failing else "READY"
                elif snapshot.status == "DELETING":
                    app.snapshots.remove(snapshot)
            if app.then is not None and app.due <= self._tick:
                then, app.then = app.then, None
                then()

    def _app(self, body: Answer) -> App:
        try:
            return self.apps[body["ApplicationName"]]
        except KeyError:
            raise Refusal(
                "ResourceNotFoundException",
                f"Application {body['ApplicationName']} could not be found",
            ) from None

    # Applications.

    def _CreateApplication(self, body: Answer) -> Answer:
        name = body["ApplicationName"]
        if name in self.apps:
            raise Refusal("ResourceInUseException", f"Application already exists: {name}")
        configuration = body["ApplicationConfiguration"]
        self._code(configuration["ApplicationCodeConfiguration"]["CodeContent"])
        app = App(
            name,
            body["RuntimeEnvironment"],
            body["ServiceExecutionRole"],
            "READY",
            1,
            {1: configuration},
            str(uuid.uuid4()),
        )
        self.apps[name] = app
        self._done(app, "CreateApplication", 1, 1)
        return {"ApplicationDetail": records.application(app)}

    def _DescribeApplication(self, body: Answer) -> Answer:
        return {"ApplicationDetail": records.application(self._app(body))}

    def _DescribeApplicationVersion(self, body: Answer) -> Answer:
        app, version = self._app(body), body["ApplicationVersionId"]
        if version not in app.versions:
            raise Refusal("ResourceNotFoundException", f"no version {version}")
        detail = records.application(app, version)
        return {"ApplicationVersionDetail": detail}

    def _StartApplication(self, body: Answer) -> Answer:
        app = self._app(body)
        if app.status != "READY":
            raise Refusal(
                "ResourceInUseException", f"Application cannot be started in {app.status} status"
            )
        run = body.get("RunConfiguration", {})
        restore = self._restore(app, run.get("ApplicationRestoreConfiguration"))
        app.run = self._run(run, restore)
        operation = self._begun(app, "StartApplication", app.version, app.version)
        app.status = "STARTING"
        self._after(app, lambda: self._start(app, operation, restore))
        return {"OperationId": operation.id}

    def _StopApplication(self, body: Answer) -> Answer:
        app, force = self._app(body), body.get("Force", False)
        stoppable = {"RUNNING"}
        if force:
            stoppable |= {"STARTING", "UPDATING", "STOPPING", "AUTOSCALING", "ROLLED_BACK"}
        if app.status not in stoppable:
            raise Refusal(
                "ResourceInUseException", f"Application cannot be stopped in {app.status} status"
            )
        operation = self._begun(app, "StopApplication", app.version, app.version)
        if not force:
            self._own_snapshot(app, app.version)
        app.status = "FORCE_STOPPING" if force else "STOPPING"
        self._after(app, lambda: self._end(app, operation, "READY"))
        return {"OperationId": operation.id}

    def _UpdateApplication(self, body: Answer) -> Answer:
        app = self._app(body)
        version, token = body.get("CurrentApplicationVersionId"), body.get("ConditionalToken")
        if version is None and token is None:
            raise Refusal(
                "InvalidArgumentException",
                "Either CurrentApplicationVersionId or ConditionalToken must be provided",
            )
        if version not in (None, app.version) or token not in (None, app.token):
            raise Refusal(
                "ConcurrentModificationException",
                "Version of the application is not the current one",
            )
        if app.status not in ("RUNNING", "READY", "ROLLED_BACK"):
            raise Refusal(
                "ResourceInUseException", f"Application cannot be updated in {app.status} status"
            )
        if any(snapshot.status == "CREATING" for snapshot in app.snapshots):
            raise Refusal("ResourceInUseException", "A snapshot is being created")
        configuration = self._merged(app, body.get("ApplicationConfigurationUpdate", {}))
        run = body.get("RunConfigurationUpdate", {})
        restore = self._restore(app, run.get("ApplicationRestoreConfiguration"))
        former = app.version
        app.version += 1
        app.versions[app.version] = configuration
        app.token = str(uuid.uuid4())
        app.rolled_back_from = app.rolled_back_to = None
        # Not named, it is false again.
        app.run = self._run(run, restore)
        app.runtime = body.get("RuntimeEnvironmentUpdate", app.runtime)
        operation = self._begun(app, "UpdateApplication", former, app.version)
        was_running = app.status != "READY"
        app.status = "UPDATING"
        if not was_running:
            self._after(app, lambda: self._end(app, operation, "READY"))
        elif self._behaviour(app) is not Behaviour.HANGS:
            self._after(app, lambda: self._restart(app, operation, former, restore))
        return {"ApplicationDetail": records.application(app), "OperationId": operation.id}

    def _restart(self, app: App, operation: Operation, former: int, restore: Answer) -> None:
        self._own_snapshot(app, former)
        if restore["ApplicationRestoreType"] == "RESTORE_FROM_LATEST_SNAPSHOT":
            restore = self._restore(app, restore)
        self._after(app, lambda: self._start(app, operation, restore, former))

    def _start(
        self, app: App, operation: Operation, restore: Answer, former: int | None = None
    ) -> None:
        behaviour = self._behaviour(app)
        if behaviour is not Behaviour.FAILS:
            self._runs(app, operation, restore)
            return
        self._end(app, operation, "READY", "The application's main() ended with exit code 1")
        system = app.configuration.get("ApplicationSystemRollbackConfiguration", {})
        if former is not None and system.get("RollbackEnabled"):
            back = self._begun(app, "SystemRollback", app.version, app.version + 1)
            operation.rollback_id = back.id
            self._revert(app, back, former)

    def _RollbackApplication(self, body: Answer) -> Answer:
        app = self._app(body)
        if body["CurrentApplicationVersionId"] != app.version:
            raise Refusal("ConcurrentModificationException", "not the current version")
        if app.status not in ("UPDATING", "AUTOSCALING", "RUNNING"):
            raise Refusal(
                "InvalidRequestException",
                f"Application cannot be rolled back in {app.status} status",
            )
        if not any(snapshot.status == "READY" for snapshot in app.snapshots):
            raise Refusal("InvalidRequestException", "The application has no snapshots")
        target = app.running_version if app.status == "UPDATING" else app.former_version
        if target is None:
            raise Refusal("InvalidRequestException", "There is no previous running version")
        for operation in app.operations:
            if operation.status == "IN_PROGRESS":
                operation.status, operation.ended = "CANCELLED", self.now()
        back = self._begun(app, "RollbackApplication", app.version, app.version + 1)
        self._revert(app, back, target)
        return {"ApplicationDetail": records.application(app), "OperationId": back.id}

    def _revert(self, app: App, operation: Operation, target: int) -> None:
        app.rolled_back_from, app.rolled_back_to = app.version, target
        app.version += 1
        app.versions[app.version] = copy.deepcopy(app.versions[target])
        app.token = str(uuid.uuid4())
        app.status = "ROLLING_BACK"
        restore = self._restore(app, None)

        def back() -> None:
            if self._behaviour(app) is Behaviour.FAILS:
                self._end(app, operation, "READY", "The former version did not start either")
                return
            self._runs(app, operation, restore)

        self._after(app, back)

    # Snapshots.

    def _CreateApplicationSnapshot(self, body: Answer) -> Answer:
        app, name = self._app(body), body["SnapshotName"]
        if app.status != "RUNNING":
            raise Refusal(
                "InvalidRequestException",
                f"A snapshot cannot be created in {app.status} status",
            )
        if any(one.name == name or one.status == "CREATING" for one in app.snapshots):
            raise Refusal("ResourceInUseException", f"Snapshot {name} or another one is created")
        if len(app.snapshots) >= MOST_SNAPSHOTS:
            raise Refusal("LimitExceededException", "Too many snapshots")
        app.snapshots.append(
            Snapshot(name, "CREATING", app.version, self.now(), self._tick + self.looks)
        )
        return {}

    def _DeleteApplicationSnapshot(self, body: Answer) -> Answer:
        app = self._app(body)
        snapshot = self._snapshot_of(app, body["SnapshotName"])
        if abs(snapshot.created - body["SnapshotCreationTimestamp"]) > 0.001:
            raise Refusal("InvalidArgumentException", "SnapshotCreationTimestamp does not match")
        if snapshot.status == "CREATING":
            raise Refusal("ResourceInUseException", f"Snapshot {snapshot.name} is being created")
        snapshot.status, snapshot.due = "DELETING", self._tick + self.looks
        return {}

    def _DescribeApplicationSnapshot(self, body: Answer) -> Answer:
        snapshot = self._snapshot_of(self._app(body), body["SnapshotName"])
        return {"SnapshotDetails": records.snapshot_summary(snapshot)}

    def _ListApplicationSnapshots(self, body: Answer) -> Answer:
        newest_first = sorted(self._app(body).snapshots, key=lambda one: -one.created)
        page, token = records.page([records.snapshot_summary(one) for one in newest_first], body)
        return {"SnapshotSummaries": page, **token}

    # Operations.

    def _ListApplicationOperations(self, body: Answer) -> Answer:
        wanted = [
            {**records.operation_summary(one), "OperationId": one.id}
            for one in reversed(self._app(body).operations)
            if body.get("Operation") in (None, one.name)
            and body.get("OperationStatus") in (None, one.status)
        ]
        page, token = records.page(wanted, body)
        return {"ApplicationOperationInfoList": page, **token}

    def _DescribeApplicationOperation(self, body: Answer) -> Answer:
        for one in self._app(body).operations:
            if one.id == body["OperationId"]:
                details = {
                    **records.operation_summary(one),
                    "EndTime": one.ended or one.started,
                    "ApplicationVersionChangeDetails": {
                        "ApplicationVersionUpdatedFrom": one.from_version,
                        "ApplicationVersionUpdatedTo": one.to_version,
                    },
                }
                if one.error:
                    failure: Answer = {"ErrorInfo": {"ErrorString": one.error}}
                    if one.rollback_id:
                        failure["RollbackOperationId"] = one.rollback_id
                    details["OperationFailureDetails"] = failure
                return {"ApplicationOperationInfoDetails": details}
        raise Refusal("ResourceNotFoundException", f"no operation {body['OperationId']}")

    # What they share.

    def now(self) -> float:
        """Seconds since the epoch, never the same twice."""
        self._last = round(max(time.time(), self._last + 0.01), 3)
        return self._last

    def _after(self, app: App, then: Callable[[], None]) -> None:
        app.due, app.then = self._tick + self.looks, then

    def _begun(self, app: App, name: str, before: int, after: int) -> Operation:
        operation = Operation(uuid.uuid4().hex, name, "IN_PROGRESS", self.now(), before, after)
        app.operations.append(operation)
        return operation

    def _done(self, app: App, name: str, before: int, after: int) -> None:
        operation = self._begun(app, name, before, after)
        operation.status, operation.ended = "SUCCESSFUL", self.now()

    def _end(self, app: App, operation: Operation, status: str, error: str = "") -> None:
        operation.status = "FAILED" if error else "SUCCESSFUL"
        operation.error, operation.ended = error, self.now()
        app.status = status

    def _runs(self, app: App, operation: Operation, restore: Answer) -> None:
        if app.running_version != app.version:
            app.former_version, app.running_version = app.running_version, app.version
        app.starts.append({**restore, "version": app.version})
        self._end(app, operation, "RUNNING")
        # Last: what it publishes is of its own time, not of the operation's.
        self.started(app, self._behaviour(app))

    def _behaviour(self, app: App) -> Behaviour:
        for end, behaviour in self.behaviours.items():
            if app.key.endswith(end):
                return behaviour
        return Behaviour.RUNS

    def _own_snapshot(self, app: App, version: int) -> None:
        enabled = app.configuration.get("ApplicationSnapshotConfiguration", {})
        if enabled.get("SnapshotsEnabled"):
            name = f"service-{uuid.uuid4().hex[:8]}"
            app.snapshots.append(Snapshot(name, "READY", version, self.now(), self._tick))

    def _snapshot_of(self, app: App, name: str) -> Snapshot:
        for one in app.snapshots:
            if one.name == name:
                return one
        raise Refusal("ResourceNotFoundException", f"Snapshot {name} could not be found")

    def _restore(self, app: App, wanted: Answer | None) -> Answer:
        """What a start restores from, the snapshot named."""
        ready = sorted(
            (one for one in app.snapshots if one.status == "READY"), key=lambda one: one.created
        )
        kind = (wanted or {}).get("ApplicationRestoreType", "RESTORE_FROM_LATEST_SNAPSHOT")
        result: Answer = {"ApplicationRestoreType": kind}
        if kind == "RESTORE_FROM_CUSTOM_SNAPSHOT":
            name = (wanted or {}).get("SnapshotName")
            if name not in [one.name for one in ready]:
                raise Refusal("InvalidArgumentException", f"Snapshot {name} is not there")
            result["SnapshotName"] = name
        elif kind == "RESTORE_FROM_LATEST_SNAPSHOT" and ready:
            result["SnapshotName"] = ready[-1].name
        return result

    @staticmethod
    def _run(run: Answer, restore: Answer) -> Answer:
        flink = run.get("FlinkRunConfiguration", {})
        return {
            "ApplicationRestoreConfigurationDescription": restore,
            "FlinkRunConfigurationDescription": {
                "AllowNonRestoredState": flink.get("AllowNonRestoredState", False)
            },
        }

    def _code(self, content: Answer) -> None:
        location = content["S3ContentLocation"]
        bucket = location["BucketARN"].removeprefix("arn:aws:s3:::")
        if not self.object_exists(bucket, location["FileKey"]):
            raise Refusal(
                "InvalidArgumentException",
                f"The object {location['FileKey']} could not be read from the bucket {bucket}",
            )

    def _merged(self, app: App, update: Answer) -> Answer:
        result = copy.deepcopy(app.configuration)
        code = update.get("ApplicationCodeConfigurationUpdate", {}).get("CodeContentUpdate", {})
        if location := code.get("S3ContentLocationUpdate"):
            content = result["ApplicationCodeConfiguration"]["CodeContent"]
            content["S3ContentLocation"].update(
                {name.removesuffix("Update"): value for name, value in location.items()}
            )
            self._code(content)
        if properties := update.get("EnvironmentPropertyUpdates"):
            result["EnvironmentProperties"] = properties
        flink = update.get("FlinkApplicationConfigurationUpdate", {})
        if parallelism := flink.get("ParallelismConfigurationUpdate"):
            result.setdefault("FlinkApplicationConfiguration", {}).setdefault(
                "ParallelismConfiguration", {}
            ).update({name.removesuffix("Update"): v for name, v in parallelism.items()})
        for name in ("ApplicationSnapshotConfiguration", "ApplicationSystemRollbackConfiguration"):
            if changed := update.get(name + "Update"):
                result[name] = {key.removesuffix("Update"): v for key, v in changed.items()}
        return result
