"""Amazon Managed Service for Apache Flink as a target: kinesisanalyticsv2, S3 for the code.

Source of the rules: API reference 2018-05-23. The service restarts a running application for an
update and makes a snapshot when it stops it; it resets ``AllowNonRestoredState`` to false in an
update that does not name it, so every update names it; it has no waiters, so the caller asks. The
client's endpoints are the usual ones (``AWS_ENDPOINT_URL_KINESIS_ANALYTICS_V2`` moves one).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import boto3
import botocore
import botocore.config
import botocore.exceptions

from connectors.flink.properties import Groups, entries_of, groups_of
from deploy.package import PackageError
from deploy.upgrades.managed_flink_health import health_of
from deploy.upgrades.releases import unpack_release
from deploy.upgrades.target import (
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

RUNTIME = "FLINK-2_2"
SNAPSHOTS_AT_A_TIME = 50

_ERRORS: Mapping[str, type[TargetError]] = {
    "ResourceNotFoundException": NoApplicationError,
    "ConcurrentModificationException": ConcurrentChangeError,
    "ResourceInUseException": BusyError,
}


@dataclass(frozen=True, slots=True)
class ManagedFlinkSettings:
    """Where the application is: ``bucket`` and ``prefix`` are its code's, ``role`` the ARN of the
    role that the service takes on (needed when the application is created)."""

    region: str
    bucket: str
    prefix: str = "tunemesh/"
    role: str | None = None

    @property
    def bucket_arn(self) -> str:
        """As the service names a bucket."""
        return f"arn:aws:s3:::{self.bucket}"

    def key(self, release: str) -> str:
        """Of a release's zip."""
        folder = f"{self.prefix.strip('/')}/" if self.prefix.strip("/") else ""
        return f"{folder}{release}.zip"


class ManagedFlink:
    """An application on Managed Flink (:class:`deploy.upgrades.target.Target`)."""

    kind = "aws"

    def __init__(
        self,
        name: str,
        settings: ManagedFlinkSettings,
        releases: Path,
        *,
        service: Any,
        objects: Any,
        metrics: Any,
    ) -> None:
        self.name = name
        self._settings = settings
        self._releases = releases
        self._service = service
        self._objects = objects
        self._metrics = metrics

    @classmethod
    def connect(cls, name: str, settings: ManagedFlinkSettings, releases: Path) -> ManagedFlink:
        """With the usual chain of credentials; no request is made yet. ``releases``: a folder for
        unpacked releases."""
        return cls(name, settings, releases, **clients_of(settings.region))

    def describe(self) -> Application:
        """The application now."""
        detail = self._call("DescribeApplication", ApplicationName=self.name)["ApplicationDetail"]
        return Application(
            name=self.name,
            status=Status(detail["ApplicationStatus"]),
            version=detail["ApplicationVersionId"],
            configuration=_configuration(detail),
            token=detail.get("ConditionalToken", ""),
            rolled_back_from=detail.get("ApplicationVersionRolledBackFrom"),
        )

    def describe_version(self, number: int) -> Configuration:
        """A version that the service still knows."""
        answer = self._call(
            "DescribeApplicationVersion", ApplicationName=self.name, ApplicationVersionId=number
        )
        return _configuration(answer["ApplicationVersionDetail"])

    def find_files(self, release: str) -> Path | None:
        """The release's files, fetched from its bucket unless they are here; None: not there."""
        with tempfile.TemporaryDirectory() as below:
            zipped = Path(below) / "release.zip"
            try:
                if not (self._releases / release).is_dir():
                    self._objects.download_file(
                        self._settings.bucket, self._settings.key(release), str(zipped)
                    )
                return unpack_release(self._releases, release, zipped)
            except (
                botocore.exceptions.ClientError,
                botocore.exceptions.BotoCoreError,
                PackageError,
            ):
                return None

    def check(self, configuration: Configuration, release: Path) -> None:
        """That there is a bucket, that the code which runs is from there, and a zip for it."""
        running = self._code()
        if running is not None:
            release_name = PurePosixPath(running[1]).stem
            expected = (self._settings.bucket_arn, self._settings.key(release_name))
            if running != expected:
                bucket, key = running[0].rpartition(":")[2], running[1]
                raise TargetError(
                    f"the code of {self.name} is {key} in the bucket {bucket}, and where the"
                    " options lead it is not, so nobody could go back to it. Give --bucket and"
                    " --prefix as they were"
                )
        unchanged = running is not None and release_name == configuration.release
        if not release.is_file() and not unchanged:
            raise TargetError(
                f"{release} is not a zip; Managed Flink takes what `tunemesh package` makes"
            )
        self._ask_s3(
            f"the bucket {self._settings.bucket}",
            lambda: self._objects.head_bucket(Bucket=self._settings.bucket),
        )

    def create(self, configuration: Configuration, release: Path) -> None:
        """A new application with snapshots and the service's own rollback on."""
        if self._settings.role is None:
            raise TargetError(
                f"{self.name} is new and needs the role that the service takes on: --role ARN"
            )
        self._upload(configuration.release, release)
        self._call(
            "CreateApplication",
            ApplicationName=self.name,
            RuntimeEnvironment=RUNTIME,
            ServiceExecutionRole=self._settings.role,
            ApplicationConfiguration={
                "ApplicationCodeConfiguration": {
                    "CodeContentType": "ZIPFILE",
                    "CodeContent": {
                        "S3ContentLocation": {
                            "BucketARN": self._settings.bucket_arn,
                            "FileKey": self._settings.key(configuration.release),
                        }
                    },
                },
                "EnvironmentProperties": {"PropertyGroups": _groups(configuration.properties)},
                "FlinkApplicationConfiguration": {
                    "ParallelismConfiguration": {
                        "ConfigurationType": "CUSTOM",
                        "Parallelism": configuration.parallelism,
                        "ParallelismPerKPU": 1,
                        # It would restart the job by itself, also in the middle of an upgrade.
                        "AutoScalingEnabled": False,
                    }
                },
                "ApplicationSnapshotConfiguration": {"SnapshotsEnabled": True},
                "ApplicationSystemRollbackConfiguration": {"RollbackEnabled": True},
            },
        )

    def start(self, restore: Restore) -> None:
        """Start a READY application."""
        self._call(
            "StartApplication",
            ApplicationName=self.name,
            RunConfiguration=_run_configuration(restore),
        )

    def stop(self, *, force: bool) -> None:
        """Stop it; without force the service makes a snapshot first."""
        self._call("StopApplication", ApplicationName=self.name, Force=force)

    def update(
        self,
        base: Application,
        configuration: Configuration,
        release: Path | None,
        restore: Restore,
    ) -> None:
        """The next version on top of the one seen."""
        if release is not None:
            self._upload(configuration.release, release)
        based = (
            {"ConditionalToken": base.token}
            if base.token
            else {"CurrentApplicationVersionId": base.version}
        )
        self._call(
            "UpdateApplication",
            ApplicationName=self.name,
            **based,
            ApplicationConfigurationUpdate={
                "ApplicationCodeConfigurationUpdate": {
                    "CodeContentUpdate": {
                        "S3ContentLocationUpdate": {
                            "BucketARNUpdate": self._settings.bucket_arn,
                            "FileKeyUpdate": self._settings.key(configuration.release),
                        }
                    }
                },
                "EnvironmentPropertyUpdates": {"PropertyGroups": _groups(configuration.properties)},
                "FlinkApplicationConfigurationUpdate": {
                    "ParallelismConfigurationUpdate": {
                        "ConfigurationTypeUpdate": "CUSTOM",
                        "ParallelismUpdate": configuration.parallelism,
                    }
                },
                "ApplicationSnapshotConfigurationUpdate": {"SnapshotsEnabledUpdate": True},
                "ApplicationSystemRollbackConfigurationUpdate": {"RollbackEnabledUpdate": True},
            },
            RunConfigurationUpdate=_run_configuration(restore),
        )

    def roll_back(self, base: Application) -> None:
        """The service's own way back."""
        self._call(
            "RollbackApplication",
            ApplicationName=self.name,
            CurrentApplicationVersionId=base.version,
        )

    def advance(self) -> None:
        """The service goes on by itself."""

    def create_snapshot(self, name: str) -> None:
        """Begin a snapshot."""
        self._call("CreateApplicationSnapshot", ApplicationName=self.name, SnapshotName=name)

    def list_snapshots(self) -> tuple[Snapshot, ...]:
        """All snapshots, the oldest first."""
        found = [
            Snapshot(
                name=summary["SnapshotName"],
                status=SnapshotStatus(summary["SnapshotStatus"]),
                version=summary["ApplicationVersionId"],
                created=summary["SnapshotCreationTimestamp"].timestamp(),
            )
            for summary in self._pages("ListApplicationSnapshots", "SnapshotSummaries")
        ]
        return tuple(sorted(found, key=lambda one: one.created))

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Begin to delete a snapshot."""
        self._call(
            "DeleteApplicationSnapshot",
            ApplicationName=self.name,
            SnapshotName=snapshot.name,
            SnapshotCreationTimestamp=snapshot.created,
        )

    def read_health(self) -> Health:
        """By CloudWatch's metrics since the present version began."""
        seen = self._call("DescribeApplication", ApplicationName=self.name)["ApplicationDetail"]
        running = seen["ApplicationStatus"] in (Status.RUNNING, Status.ROLLED_BACK)
        try:
            return health_of(self._metrics, self.name, running=running, since=self._began())
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            raise TargetError(f"CloudWatch does not say how {self.name} does: {error}") from error

    def describe_failure(self, version: int) -> str:
        """What the operation that led to a version says of its failure."""
        for summary in self._pages("ListApplicationOperations", "ApplicationOperationInfoList"):
            if summary["OperationStatus"] != "FAILED":
                continue
            operation = self._call(
                "DescribeApplicationOperation",
                ApplicationName=self.name,
                OperationId=summary["OperationId"],
            )["ApplicationOperationInfoDetails"]
            changed = operation.get("ApplicationVersionChangeDetails", {})
            if changed.get("ApplicationVersionUpdatedTo") == version:
                error = operation.get("OperationFailureDetails", {}).get("ErrorInfo", {})
                return f"{operation['Operation']}: {error.get('ErrorString', 'no reason given')}"
        return ""

    def _code(self) -> tuple[str, str] | None:
        """The bucket (ARN) and key of the present version's code; None: no application."""
        try:
            detail = self._call("DescribeApplication", ApplicationName=self.name)
        except NoApplicationError:
            return None
        location = _location(detail["ApplicationDetail"])
        return location.get("BucketARN", ""), location.get("FileKey", "")

    def _began(self) -> float | None:
        """When the last change was complete, seconds since the epoch; None: not known."""
        for summary in self._pages("ListApplicationOperations", "ApplicationOperationInfoList"):
            if summary["OperationStatus"] == "SUCCESSFUL" and "EndTime" in summary:
                return float(summary["EndTime"].timestamp())
        return None

    def _upload(self, release: str, zipped: Path) -> None:
        """Put the zip where the service takes it from; one that is there is the same."""
        bucket, key = self._settings.bucket, self._settings.key(release)
        try:
            digest = hashlib.sha256(zipped.read_bytes()).hexdigest()
        except OSError as error:
            raise TargetError(
                f"{zipped} cannot be read: {error.strerror}. Name the release's zip again"
            ) from error
        try:
            head = self._objects.head_object(Bucket=bucket, Key=key)
            if head.get("Metadata", {}).get("sha256") == digest:
                return
        except botocore.exceptions.ClientError:
            pass
        self._ask_s3(
            f"upload {key} to the bucket {bucket}",
            lambda: self._objects.upload_file(
                str(zipped), bucket, key, ExtraArgs={"Metadata": {"sha256": digest}}
            ),
        )

    def _ask_s3(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            if not isinstance(error, _S3_ERRORS):
                raise
            raise TargetError(f"S3: {what}: {error}") from error

    def _pages(self, operation: str, member: str) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            answer = self._call(
                operation, ApplicationName=self.name, Limit=SNAPSHOTS_AT_A_TIME, **more
            )
            yield from answer.get(member, [])
            if not answer.get("NextToken"):
                return
            more = {"NextToken": answer["NextToken"]}

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """A call; raises TargetError, by the error's code."""
        try:
            call = getattr(self._service, botocore.xform_name(operation))
            answer: dict[str, Any] = call(**arguments)
            return answer
        except botocore.exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            message = error.response.get("Error", {}).get("Message", "")
            raise _ERRORS.get(code, TargetError)(
                f"Managed Flink, {operation} of {self.name}: {code}: {message}"
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise TargetError(f"Managed Flink, {operation} of {self.name}: {error}") from error


def clients_of(region: str) -> dict[str, Any]:
    """The clients that :class:`ManagedFlink` takes, as keyword arguments."""
    session = boto3.session.Session(region_name=region)
    config = botocore.config.Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"total_max_attempts": 6, "mode": "standard"},
    )
    return {
        keyword: session.client(service, config=config)
        for keyword, service in (
            ("service", "kinesisanalyticsv2"),
            ("objects", "s3"),
            ("metrics", "cloudwatch"),
        )
    }


_S3_ERRORS = (
    botocore.exceptions.ClientError,
    botocore.exceptions.BotoCoreError,
    boto3.exceptions.S3UploadFailedError,
)


def _configuration(detail: Mapping[str, Any]) -> Configuration:
    described = detail["ApplicationConfigurationDescription"]
    location = _location(detail)
    properties = described.get("EnvironmentPropertyDescriptions", {})
    flink = described.get("FlinkApplicationConfigurationDescription", {})
    return Configuration(
        release=PurePosixPath(location.get("FileKey", "unknown")).stem
        if location.get("FileKey", "").endswith(".zip")
        else location.get("FileKey", "unknown"),
        properties=groups_of(properties.get("PropertyGroupDescriptions", [])),
        parallelism=flink.get("ParallelismConfigurationDescription", {}).get("Parallelism", 1),
    )


def _location(detail: Mapping[str, Any]) -> dict[str, str]:
    described = detail["ApplicationConfigurationDescription"]
    code = described["ApplicationCodeConfigurationDescription"]["CodeContentDescription"]
    found: dict[str, str] = code.get("S3ApplicationCodeLocationDescription", {})
    return found


def _groups(properties: Groups) -> list[dict[str, Any]]:
    """In the service's shape, which knows no empty group."""
    return entries_of({name: values for name, values in properties.items() if values})


def _run_configuration(restore: Restore) -> dict[str, Any]:
    wanted: dict[str, Any] = {"ApplicationRestoreType": restore.kind.value}
    if restore.kind is RestoreKind.CUSTOM:
        wanted["SnapshotName"] = restore.snapshot
    return {
        "ApplicationRestoreConfiguration": wanted,
        # State that no operator takes is lost in silence where this is true.
        "FlinkRunConfiguration": {"AllowNonRestoredState": False},
    }
