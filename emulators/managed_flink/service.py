"""The rules of kinesisanalyticsv2 for applications, snapshots and operations.

Source: the API reference (2018-05-23) and the developer guide ("System rollbacks", "Manage
application backups using snapshots"). No code runs: tests script the result of a code file
(`records.Behaviour`). Time is counted in polls, that is Describe and List calls: an operation or a
snapshot is complete after a number of polls, so transitions take several calls but no time.
"""

from __future__ import annotations

import copy
import time
import uuid
from collections import deque
from collections.abc import Callable

from emulators.errors import ServiceError
from emulators.managed_flink import records
from emulators.managed_flink.records import (
    App,
    Behaviour,
    Document,
    Fault,
    Operation,
    Snapshot,
)

MAX_SNAPSHOTS = 1_000


class Service:
    """All applications of an account."""

    def __init__(self, polls: int = 2) -> None:
        self.polls = polls
        """How many polls an operation takes."""
        self.apps: dict[str, App] = {}
        self.behaviours: dict[str, Behaviour] = {}
        """By the suffix of a code file's key; the default is RUNS."""
        self.configuration_overrides: Document = {}
        """Members that replace those of an updated configuration."""
        self.faults: deque[Fault] = deque()
        self.calls: list[tuple[str, Document]] = []
        self.object_exists: Callable[[str, str], bool] = lambda bucket, key: True
        self.started: Callable[[App, Behaviour], None] = lambda app, behaviour: None
        """Called when an application becomes RUNNING."""
        self._tick = 0
        self._last = 0.0

    # Calls.

    def answer(self, operation: str, body: Document) -> Document:
        """The response of an operation; raises ServiceError."""
        self.calls.append((operation, copy.deepcopy(body)))
        fault = next((f for f in self.faults if f.operation == operation), None)
        if fault is not None:
            self.faults.remove(fault)
            if not fault.after:
                raise ServiceError(fault.code, "Rate exceeded")
        handler = getattr(self, "_" + operation, None)
        if handler is None:
            raise ServiceError("UnsupportedOperationException", f"{operation} is not offered")
        if operation.startswith(("Describe", "List")):
            self._advance()
        result: Document = handler(body)
        if fault is not None:
            raise ServiceError(fault.code, "Internal failure")
        return result

    def calls_of(self, operation: str) -> list[Document]:
        """The bodies of the calls of an operation so far."""
        return [body for name, body in self.calls if name == operation]

    def _advance(self) -> None:
        self._tick += 1
        for app in self.apps.values():
            for snapshot in [s for s in app.snapshots if s.due <= self._tick]:
                if snapshot.status == "CREATING":
                    fails = Behaviour.FAILS is self.behaviours.get("snapshots") or (
                        self._behaviour(app) is Behaviour.LOOPS
                    )
                    snapshot.status = "FAILED" if fails else "READY"
                elif snapshot.status == "DELETING":
                    app.snapshots.remove(snapshot)
            if app.transition is not None and app.due <= self._tick:
                transition, app.transition = app.transition, None
                transition()

    def _find_app(self, body: Document) -> App:
        try:
            return self.apps[body["ApplicationName"]]
        except KeyError:
            raise ServiceError(
                "ResourceNotFoundException",
                f"Application {body['ApplicationName']} could not be found",
            ) from None

    # Applications.

    def _CreateApplication(self, body: Document) -> Document:
        name = body["ApplicationName"]
        if name in self.apps:
            raise ServiceError("ResourceInUseException", f"Application already exists: {name}")
        configuration = body["ApplicationConfiguration"]
        self._check_code(configuration["ApplicationCodeConfiguration"]["CodeContent"])
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
        self._add_completed(app, "CreateApplication", 1, 1)
        return {"ApplicationDetail": records.application_detail(app)}

    def _DescribeApplication(self, body: Document) -> Document:
        return {"ApplicationDetail": records.application_detail(self._find_app(body))}

    def _DescribeApplicationVersion(self, body: Document) -> Document:
        app, version = self._find_app(body), body["ApplicationVersionId"]
        if version not in app.versions:
            raise ServiceError("ResourceNotFoundException", f"no version {version}")
        detail = records.application_detail(app, version)
        return {"ApplicationVersionDetail": detail}

    def _StartApplication(self, body: Document) -> Document:
        app = self._find_app(body)
        if app.status != "READY":
            raise ServiceError(
                "ResourceInUseException", f"Application cannot be started in {app.status} status"
            )
        run = body.get("RunConfiguration", {})
        restore = self._restore(app, run.get("ApplicationRestoreConfiguration"))
        app.run = self._run_configuration(run, restore)
        operation = self._begin(app, "StartApplication", app.version, app.version)
        app.status = "STARTING"
        self._schedule(app, lambda: self._start(app, operation, restore))
        return {"OperationId": operation.id}

    def _StopApplication(self, body: Document) -> Document:
        app, force = self._find_app(body), body.get("Force", False)
        stoppable = {"RUNNING"}
        if force:
            stoppable |= {"STARTING", "UPDATING", "STOPPING", "AUTOSCALING", "ROLLED_BACK"}
        if app.status not in stoppable:
            raise ServiceError(
                "ResourceInUseException", f"Application cannot be stopped in {app.status} status"
            )
        operation = self._begin(app, "StopApplication", app.version, app.version)
        if not force:
            self._create_service_snapshot(app, app.version)
        app.status = "FORCE_STOPPING" if force else "STOPPING"
        self._schedule(app, lambda: self._end(app, operation, "READY"))
        return {"OperationId": operation.id}

    def _UpdateApplication(self, body: Document) -> Document:
        app = self._find_app(body)
        version, token = body.get("CurrentApplicationVersionId"), body.get("ConditionalToken")
        if version is None and token is None:
            raise ServiceError(
                "InvalidArgumentException",
                "Either CurrentApplicationVersionId or ConditionalToken must be provided",
            )
        if version not in (None, app.version) or token not in (None, app.token):
            raise ServiceError(
                "ConcurrentModificationException",
                "Version of the application is not the current one",
            )
        if app.status not in ("RUNNING", "READY", "ROLLED_BACK"):
            raise ServiceError(
                "ResourceInUseException", f"Application cannot be updated in {app.status} status"
            )
        if any(snapshot.status == "CREATING" for snapshot in app.snapshots):
            raise ServiceError("ResourceInUseException", "A snapshot is being created")
        configuration = self._merge(app, body.get("ApplicationConfigurationUpdate", {}))
        run = body.get("RunConfigurationUpdate", {})
        restore = self._restore(app, run.get("ApplicationRestoreConfiguration"))
        former = app.version
        app.version += 1
        app.versions[app.version] = configuration
        app.token = str(uuid.uuid4())
        app.rolled_back_from = app.rolled_back_to = None
        # The service resets AllowNonRestoredState to false when the request does not set it.
        app.run = self._run_configuration(run, restore)
        app.runtime = body.get("RuntimeEnvironmentUpdate", app.runtime)
        operation = self._begin(app, "UpdateApplication", former, app.version)
        was_running = app.status != "READY"
        app.status = "UPDATING"
        if not was_running:
            self._schedule(app, lambda: self._end(app, operation, "READY"))
        elif self._behaviour(app) is not Behaviour.HANGS:
            self._schedule(app, lambda: self._restart(app, operation, former, restore))
        return {"ApplicationDetail": records.application_detail(app), "OperationId": operation.id}

    def _restart(self, app: App, operation: Operation, former: int, restore: Document) -> None:
        self._create_service_snapshot(app, former)
        if restore["ApplicationRestoreType"] == "RESTORE_FROM_LATEST_SNAPSHOT":
            restore = self._restore(app, restore)
        self._schedule(app, lambda: self._start(app, operation, restore, former))

    def _start(
        self, app: App, operation: Operation, restore: Document, former: int | None = None
    ) -> None:
        behaviour = self._behaviour(app)
        if behaviour is not Behaviour.FAILS:
            self._set_running(app, operation, restore)
            return
        self._end(app, operation, "READY", "The application's main() ended with exit code 1")
        system = app.configuration.get("ApplicationSystemRollbackConfiguration", {})
        if former is not None and system.get("RollbackEnabled"):
            back = self._begin(app, "SystemRollback", app.version, app.version + 1)
            operation.rollback_id = back.id
            self._revert(app, back, former)

    def _RollbackApplication(self, body: Document) -> Document:
        app = self._find_app(body)
        if body["CurrentApplicationVersionId"] != app.version:
            raise ServiceError("ConcurrentModificationException", "not the current version")
        if app.status not in ("UPDATING", "AUTOSCALING", "RUNNING"):
            raise ServiceError(
                "InvalidRequestException",
                f"Application cannot be rolled back in {app.status} status",
            )
        if not any(snapshot.status == "READY" for snapshot in app.snapshots):
            raise ServiceError("InvalidRequestException", "The application has no snapshots")
        target = app.running_version if app.status == "UPDATING" else app.former_version
        if target is None:
            raise ServiceError("InvalidRequestException", "There is no previous running version")
        for operation in app.operations:
            if operation.status == "IN_PROGRESS":
                operation.status, operation.ended = "CANCELLED", self.now()
        back = self._begin(app, "RollbackApplication", app.version, app.version + 1)
        self._revert(app, back, target)
        return {"ApplicationDetail": records.application_detail(app), "OperationId": back.id}

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
            self._set_running(app, operation, restore)

        self._schedule(app, back)

    # Snapshots.

    def _CreateApplicationSnapshot(self, body: Document) -> Document:
        app, name = self._find_app(body), body["SnapshotName"]
        if app.status != "RUNNING":
            raise ServiceError(
                "InvalidRequestException",
                f"A snapshot cannot be created in {app.status} status",
            )
        if any(other.name == name or other.status == "CREATING" for other in app.snapshots):
            raise ServiceError(
                "ResourceInUseException", f"Snapshot {name} or another one is created"
            )
        if len(app.snapshots) >= MAX_SNAPSHOTS:
            raise ServiceError("LimitExceededException", "Too many snapshots")
        app.snapshots.append(
            Snapshot(name, "CREATING", app.version, self.now(), self._tick + self.polls)
        )
        return {}

    def _DeleteApplicationSnapshot(self, body: Document) -> Document:
        app = self._find_app(body)
        snapshot = self._find_snapshot(app, body["SnapshotName"])
        if abs(snapshot.created - body["SnapshotCreationTimestamp"]) > 0.001:
            raise ServiceError(
                "InvalidArgumentException", "SnapshotCreationTimestamp does not match"
            )
        if snapshot.status == "CREATING":
            raise ServiceError(
                "ResourceInUseException", f"Snapshot {snapshot.name} is being created"
            )
        snapshot.status, snapshot.due = "DELETING", self._tick + self.polls
        return {}

    def _DescribeApplicationSnapshot(self, body: Document) -> Document:
        snapshot = self._find_snapshot(self._find_app(body), body["SnapshotName"])
        return {"SnapshotDetails": records.snapshot_summary(snapshot)}

    def _ListApplicationSnapshots(self, body: Document) -> Document:
        newest_first = sorted(
            self._find_app(body).snapshots, key=lambda snapshot: -snapshot.created
        )
        page, token = records.page([records.snapshot_summary(s) for s in newest_first], body)
        return {"SnapshotSummaries": page, **token}

    # Operations.

    def _ListApplicationOperations(self, body: Document) -> Document:
        summaries = [
            {**records.operation_summary(operation), "OperationId": operation.id}
            for operation in reversed(self._find_app(body).operations)
            if body.get("Operation") in (None, operation.name)
            and body.get("OperationStatus") in (None, operation.status)
        ]
        page, token = records.page(summaries, body)
        return {"ApplicationOperationInfoList": page, **token}

    def _DescribeApplicationOperation(self, body: Document) -> Document:
        for operation in self._find_app(body).operations:
            if operation.id == body["OperationId"]:
                details = {
                    **records.operation_summary(operation),
                    "EndTime": operation.ended or operation.started,
                    "ApplicationVersionChangeDetails": {
                        "ApplicationVersionUpdatedFrom": operation.from_version,
                        "ApplicationVersionUpdatedTo": operation.to_version,
                    },
                }
                if operation.error:
                    failure: Document = {"ErrorInfo": {"ErrorString": operation.error}}
                    if operation.rollback_id:
                        failure["RollbackOperationId"] = operation.rollback_id
                    details["OperationFailureDetails"] = failure
                return {"ApplicationOperationInfoDetails": details}
        raise ServiceError("ResourceNotFoundException", f"no operation {body['OperationId']}")

    # Shared by the calls.

    def now(self) -> float:
        """Seconds since the epoch, a greater value at each call."""
        self._last = round(max(time.time(), self._last + 0.01), 3)
        return self._last

    def _schedule(self, app: App, transition: Callable[[], None]) -> None:
        app.due, app.transition = self._tick + self.polls, transition

    def _begin(self, app: App, name: str, before: int, after: int) -> Operation:
        operation = Operation(uuid.uuid4().hex, name, "IN_PROGRESS", self.now(), before, after)
        app.operations.append(operation)
        return operation

    def _add_completed(self, app: App, name: str, before: int, after: int) -> None:
        operation = self._begin(app, name, before, after)
        operation.status, operation.ended = "SUCCESSFUL", self.now()

    def _end(self, app: App, operation: Operation, status: str, error: str = "") -> None:
        operation.status = "FAILED" if error else "SUCCESSFUL"
        operation.error, operation.ended = error, self.now()
        app.status = status

    def _set_running(self, app: App, operation: Operation, restore: Document) -> None:
        if app.running_version != app.version:
            app.former_version, app.running_version = app.running_version, app.version
        app.starts.append({**restore, "version": app.version})
        self._end(app, operation, "RUNNING")
        # Last, so that the metrics of the new run are later than the end of the operation.
        self.started(app, self._behaviour(app))

    def _behaviour(self, app: App) -> Behaviour:
        for end, behaviour in self.behaviours.items():
            if app.key.endswith(end):
                return behaviour
        return Behaviour.RUNS

    def _create_service_snapshot(self, app: App, version: int) -> None:
        enabled = app.configuration.get("ApplicationSnapshotConfiguration", {})
        if enabled.get("SnapshotsEnabled"):
            name = f"service-{uuid.uuid4().hex[:8]}"
            app.snapshots.append(Snapshot(name, "READY", version, self.now(), self._tick))

    def _find_snapshot(self, app: App, name: str) -> Snapshot:
        for snapshot in app.snapshots:
            if snapshot.name == name:
                return snapshot
        raise ServiceError("ResourceNotFoundException", f"Snapshot {name} could not be found")

    def _restore(self, app: App, requested: Document | None) -> Document:
        """The restore configuration of a start, with the name of the snapshot."""
        ready = sorted(
            (snapshot for snapshot in app.snapshots if snapshot.status == "READY"),
            key=lambda snapshot: snapshot.created,
        )
        kind = (requested or {}).get("ApplicationRestoreType", "RESTORE_FROM_LATEST_SNAPSHOT")
        result: Document = {"ApplicationRestoreType": kind}
        if kind == "RESTORE_FROM_CUSTOM_SNAPSHOT":
            name = (requested or {}).get("SnapshotName")
            if name not in [snapshot.name for snapshot in ready]:
                raise ServiceError("InvalidArgumentException", f"Snapshot {name} does not exist")
            result["SnapshotName"] = name
        elif kind == "RESTORE_FROM_LATEST_SNAPSHOT" and ready:
            result["SnapshotName"] = ready[-1].name
        return result

    @staticmethod
    def _run_configuration(run: Document, restore: Document) -> Document:
        flink = run.get("FlinkRunConfiguration", {})
        return {
            "ApplicationRestoreConfigurationDescription": restore,
            "FlinkRunConfigurationDescription": {
                "AllowNonRestoredState": flink.get("AllowNonRestoredState", False)
            },
        }

    def _check_code(self, content: Document) -> None:
        location = content["S3ContentLocation"]
        bucket = location["BucketARN"].removeprefix("arn:aws:s3:::")
        if not self.object_exists(bucket, location["FileKey"]):
            raise ServiceError(
                "InvalidArgumentException",
                f"The object {location['FileKey']} could not be read from the bucket {bucket}",
            )

    def _merge(self, app: App, update: Document) -> Document:
        result = copy.deepcopy(app.configuration)
        code = update.get("ApplicationCodeConfigurationUpdate", {}).get("CodeContentUpdate", {})
        if location := code.get("S3ContentLocationUpdate"):
            content = result["ApplicationCodeConfiguration"]["CodeContent"]
            content["S3ContentLocation"].update(
                {name.removesuffix("Update"): value for name, value in location.items()}
            )
            self._check_code(content)
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
        return {**result, **self.configuration_overrides}
