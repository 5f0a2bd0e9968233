"""The records of the emulator, and their form in responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

ARN = "arn:aws:kinesisanalytics:us-east-1:000000000000:application"

Document = dict[str, Any]


class Behaviour(Enum):
    """What happens to an application with a certain code file."""

    RUNS = "runs"
    FAILS = "fails"
    """It does not become RUNNING: the operation fails."""
    LOOPS = "loops"
    """RUNNING, but its job restarts repeatedly."""
    HANGS = "hangs"
    """The operation never ends."""


@dataclass(slots=True)
class Fault:
    """Lets the next call of an operation fail: before it takes effect, or after (the response is
    lost)."""

    operation: str
    code: str
    after: bool = False


@dataclass(slots=True)
class Operation:
    id: str
    name: str
    status: str
    started: float
    from_version: int
    to_version: int
    ended: float | None = None
    error: str = ""
    rollback_id: str = ""


@dataclass(slots=True)
class Snapshot:
    name: str
    status: str
    version: int
    created: float
    due: int


@dataclass(slots=True)
class App:
    name: str
    runtime: str
    role: str
    status: str
    version: int
    versions: dict[int, Document]
    """Configurations, in the shape of ApplicationConfiguration."""
    token: str
    run: Document = field(default_factory=dict)
    """The current run configuration."""
    starts: list[Document] = field(default_factory=list)
    """For each start: restore type, snapshot name, version."""
    snapshots: list[Snapshot] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    running_version: int | None = None
    """The last version that was RUNNING."""
    former_version: int | None = None
    """The running version before it."""
    rolled_back_from: int | None = None
    rolled_back_to: int | None = None
    due: int = 0
    """The poll at which the pending transition takes place."""
    transition: Callable[[], None] | None = None

    @property
    def configuration(self) -> Document:
        return self.versions[self.version]

    @property
    def key(self) -> str:
        code = self.configuration["ApplicationCodeConfiguration"]["CodeContent"]
        return str(code["S3ContentLocation"]["FileKey"])


def application_detail(app: App, version: int | None = None) -> Document:
    """The application, or one of its versions, as DescribeApplication returns it."""
    configuration = app.versions[version or app.version]
    location = configuration["ApplicationCodeConfiguration"]["CodeContent"]["S3ContentLocation"]
    described = {
        "ApplicationCodeConfigurationDescription": {
            "CodeContentType": "ZIPFILE",
            "CodeContentDescription": {"S3ApplicationCodeLocationDescription": location},
        },
        "EnvironmentPropertyDescriptions": {
            "PropertyGroupDescriptions": configuration.get("EnvironmentProperties", {}).get(
                "PropertyGroups", []
            )
        },
        "FlinkApplicationConfigurationDescription": {
            f"{name}Description": value
            for name, value in configuration.get("FlinkApplicationConfiguration", {}).items()
        },
        "RunConfigurationDescription": app.run,
        **{
            f"{name}Description": configuration[name]
            for name in (
                "ApplicationSnapshotConfiguration",
                "ApplicationSystemRollbackConfiguration",
            )
            if name in configuration
        },
    }
    detail = {
        "ApplicationARN": f"{ARN}/{app.name}",
        "ApplicationName": app.name,
        "RuntimeEnvironment": app.runtime,
        "ServiceExecutionRole": app.role,
        "ApplicationStatus": app.status,
        "ApplicationVersionId": version or app.version,
        "ApplicationConfigurationDescription": described,
        "ConditionalToken": app.token,
    }
    if app.rolled_back_from is not None:
        detail["ApplicationVersionRolledBackFrom"] = app.rolled_back_from
        detail["ApplicationVersionRolledBackTo"] = app.rolled_back_to
    return detail


def snapshot_summary(snapshot: Snapshot) -> Document:
    """The snapshot as ListApplicationSnapshots returns it."""
    return {
        "SnapshotName": snapshot.name,
        "SnapshotStatus": snapshot.status,
        "ApplicationVersionId": snapshot.version,
        "SnapshotCreationTimestamp": snapshot.created,
    }


def operation_summary(operation: Operation) -> Document:
    """The operation as ListApplicationOperations returns it, without its id."""
    result: Document = {
        "Operation": operation.name,
        "OperationStatus": operation.status,
        "StartTime": operation.started,
    }
    if operation.ended is not None:
        result["EndTime"] = operation.ended
    return result


def page(entries: list[Document], body: Document) -> tuple[list[Document], Document]:
    """One page of entries for a request, and the member with the token of the next page."""
    start, limit = int(body.get("NextToken", "0")), body.get("Limit", 50)
    has_more = start + limit < len(entries)
    return entries[start : start + limit], {"NextToken": str(start + limit)} if has_more else {}
