"""What the local Managed Flink keeps, and how it shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

ARN = "arn:aws:kinesisanalytics:us-east-1:000000000000:application"

Answer = dict[str, Any]


class Behaviour(Enum):
    """What becomes of an application with a certain code file."""

    RUNS = "runs"
    FAILS = "fails"
    """It does not get to RUNNING: the operation fails."""
    LOOPS = "loops"
    """RUNNING, and its job restarts for ever."""
    HANGS = "hangs"
    """The change never ends."""


class Refusal(Exception):
    """An error answer, by the service's code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(slots=True)
class Fault:
    """The next call of an operation fails: before it has an effect, or after (the answer is
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
    versions: dict[int, Answer]
    """Configurations, in the shape of ApplicationConfiguration."""
    token: str
    run: Answer = field(default_factory=dict)
    """The present run configuration."""
    starts: list[Answer] = field(default_factory=list)
    """What each start restored from: restore type, snapshot name, version."""
    snapshots: list[Snapshot] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    running_version: int | None = None
    """The last version that ran."""
    former_version: int | None = None
    """The running version before it."""
    rolled_back_from: int | None = None
    rolled_back_to: int | None = None
    due: int = 0
    then: Callable[[], None] | None = None

    @property
    def configuration(self) -> Answer:
        return self.versions[self.version]

    @property
    def key(self) -> str:
        code = self.configuration["ApplicationCodeConfiguration"]["CodeContent"]
        return str(code["S3ContentLocation"]["FileKey"])


def application(app: App, version: int | None = None) -> Answer:
    """As DescribeApplication shows it, or one of its versions."""
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


def snapshot_summary(snapshot: Snapshot) -> Answer:
    return {
        "SnapshotName": snapshot.name,
        "SnapshotStatus": snapshot.status,
        "ApplicationVersionId": snapshot.version,
        "SnapshotCreationTimestamp": snapshot.created,
    }


def operation_summary(operation: Operation) -> Answer:
    result: Answer = {
        "Operation": operation.name,
        "OperationStatus": operation.status,
        "StartTime": operation.started,
    }
    if operation.ended is not None:
        result["EndTime"] = operation.ended
    return result


def page(entries: list[Answer], body: Answer) -> tuple[list[Answer], Answer]:
    start, limit = int(body.get("NextToken", "0")), body.get("Limit", 50)
    rest = start + limit < len(entries)
    return entries[start : start + limit], {"NextToken": str(start + limit)} if rest else {}
