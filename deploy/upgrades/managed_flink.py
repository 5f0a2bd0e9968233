"""Amazon Managed Service for Apache Flink as a target: kinesisanalyticsv2, S3 for the code.

Source of the rules: API reference 2018-05-23. The service restarts a running application for an
update and creates a snapshot when it stops it; it resets ``AllowNonRestoredState`` to false in an
update without it, so every update has it; it has no waiters, so the caller polls. The endpoints
are boto3's (``AWS_ENDPOINT_URL_KINESIS_ANALYTICS_V2`` overrides one).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import boto3.exceptions
import botocore
import botocore.exceptions

from connectors.aws.sdk import error_code, sdk_client
from connectors.flink.properties import Groups, entries_of, groups_of
from deploy.package.errors import ContentError, PackageError
from deploy.upgrades.managed_flink_health import read_health
from deploy.upgrades.releases import unpack_release
from deploy.upgrades.target import (
    RUNNING_STATUSES,
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
PAGE_SIZE = 50

_AWS_ERRORS = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)
_S3_ERRORS = (*_AWS_ERRORS, boto3.exceptions.S3UploadFailedError)

_ERROR_TYPES: Mapping[str, type[TargetError]] = {
    "ResourceNotFoundException": NoApplicationError,
    "ConcurrentModificationException": ConcurrentChangeError,
    "ResourceInUseException": BusyError,
}


@dataclass(frozen=True, slots=True)
class ManagedFlinkSettings:
    """Where the application runs: ``bucket`` and ``prefix`` are those of releases, ``role`` the ARN
    of the role that the service assumes (needed when the application is created)."""

    region: str
    bucket: str
    prefix: str = "tunemesh/"
    role: str | None = None

    @property
    def bucket_arn(self) -> str:
        """The bucket's ARN."""
        return f"arn:aws:s3:::{self.bucket}"

    def key(self, release: str) -> str:
        """Return the key of a release's zip."""
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
        """Connect with boto3's chain of credentials; no request is sent yet.

        ``releases``: a folder for unpacked releases.
        """
        return cls(name, settings, releases, **create_clients(settings.region))

    def describe(self) -> Application:
        """Return the application's present state."""
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
        """Return a version that the service still has."""
        answer = self._call(
            "DescribeApplicationVersion", ApplicationName=self.name, ApplicationVersionId=number
        )
        return _configuration(answer["ApplicationVersionDetail"])

    def find_files(self, release: str) -> Path | None:
        """Return the release's files, downloaded if necessary; None if the bucket has none.

        Raises ContentError for files that are not those of the release.
        """
        with tempfile.TemporaryDirectory() as folder:
            zipped = Path(folder) / "release.zip"
            try:
                if not (self._releases / release).is_dir():
                    self._objects.download_file(
                        self._settings.bucket, self._settings.key(release), str(zipped)
                    )
                return unpack_release(self._releases, release, zipped)
            except ContentError:
                raise
            except (*_AWS_ERRORS, PackageError):
                return None

    def check(self, configuration: Configuration, release: Path) -> None:
        """Check the bucket, that it has the running code, and that the release is a zip."""
        running = self._code_location()
        if running is not None:
            release_name = PurePosixPath(running[1]).stem
            expected = (self._settings.bucket_arn, self._settings.key(release_name))
            if running != expected:
                bucket, key = running[0].rpartition(":")[2], running[1]
                raise TargetError(
                    f"the code of {self.name} is {key} in the bucket {bucket}, which is not where"
                    " --bucket and --prefix point, so it could not be rolled back to. Use the"
                    " bucket and prefix of the running code"
                )
        unchanged = running is not None and release_name == configuration.release
        if not release.is_file() and not unchanged:
            raise TargetError(
                f"{release} is not a zip; Managed Flink needs one that `tunemesh package` builds"
            )
        self._call_s3(
            f"check the bucket {self._settings.bucket}",
            lambda: self._objects.head_bucket(Bucket=self._settings.bucket),
        )

    def create(self, configuration: Configuration, release: Path) -> None:
        """Create an application with snapshots and the service's own rollback enabled."""
        if self._settings.role is None:
            raise TargetError(
                f"{self.name} is new and needs a role that the service assumes: --role ARN"
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
                        # It would restart the job at any time, also in the middle of an upgrade.
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
        """Stop it; without force the service creates a snapshot first."""
        self._call("StopApplication", ApplicationName=self.name, Force=force)

    def update(
        self,
        base: Application,
        configuration: Configuration,
        release: Path | None,
        restore: Restore,
    ) -> None:
        """Create the next version, based on the one given."""
        if release is not None:
            self._upload(configuration.release, release)
        base_version = (
            {"ConditionalToken": base.token}
            if base.token
            else {"CurrentApplicationVersionId": base.version}
        )
        self._call(
            "UpdateApplication",
            ApplicationName=self.name,
            **base_version,
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
        """Start the service's own rollback."""
        self._call(
            "RollbackApplication",
            ApplicationName=self.name,
            CurrentApplicationVersionId=base.version,
        )

    def advance(self) -> None:
        """Do nothing: the service continues a change automatically."""

    def create_snapshot(self, name: str) -> None:
        """Start to create a snapshot."""
        self._call("CreateApplicationSnapshot", ApplicationName=self.name, SnapshotName=name)

    def list_snapshots(self) -> tuple[Snapshot, ...]:
        """Return all snapshots, the oldest first."""
        snapshots = [
            Snapshot(
                name=summary["SnapshotName"],
                status=SnapshotStatus(summary["SnapshotStatus"]),
                version=summary["ApplicationVersionId"],
                created=summary["SnapshotCreationTimestamp"].timestamp(),
            )
            for summary in self._pages("ListApplicationSnapshots", "SnapshotSummaries")
        ]
        return tuple(sorted(snapshots, key=lambda snapshot: snapshot.created))

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Start to delete a snapshot."""
        self._call(
            "DeleteApplicationSnapshot",
            ApplicationName=self.name,
            SnapshotName=snapshot.name,
            SnapshotCreationTimestamp=snapshot.created,
        )

    def read_health(self) -> Health:
        """Return the health by CloudWatch's metrics since the present version started."""
        detail = self._call("DescribeApplication", ApplicationName=self.name)["ApplicationDetail"]
        running = detail["ApplicationStatus"] in RUNNING_STATUSES
        since = self._last_change_ended()
        try:
            return read_health(self._metrics, self.name, running=running, since=since)
        except _AWS_ERRORS as error:
            raise TargetError(f"CloudWatch: metrics of {self.name}: {error}") from error

    def describe_failure(self, version: int) -> str:
        """Return the error of the operation that created a version."""
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

    def _code_location(self) -> tuple[str, str] | None:
        """Return the bucket's ARN and the key of the present code; None: no application."""
        try:
            detail = self._call("DescribeApplication", ApplicationName=self.name)
        except NoApplicationError:
            return None
        location = _location(detail["ApplicationDetail"])
        return location.get("BucketARN", ""), location.get("FileKey", "")

    def _last_change_ended(self) -> float | None:
        """Return when the last change was complete, seconds since the epoch; None: unknown."""
        for summary in self._pages("ListApplicationOperations", "ApplicationOperationInfoList"):
            if summary["OperationStatus"] == "SUCCESSFUL" and "EndTime" in summary:
                return float(summary["EndTime"].timestamp())
        return None

    def _upload(self, release: str, zipped: Path) -> None:
        """Upload the zip to the bucket unless it is there."""
        bucket, key = self._settings.bucket, self._settings.key(release)
        try:
            digest = hashlib.sha256(zipped.read_bytes()).hexdigest()
        except OSError as error:
            raise TargetError(
                f"{zipped} cannot be read: {error.strerror}. Give the release's zip again"
            ) from error
        try:
            head = self._objects.head_object(Bucket=bucket, Key=key)
            if head.get("Metadata", {}).get("sha256") == digest:
                return
        except botocore.exceptions.ClientError:
            pass
        self._call_s3(
            f"upload {key} to the bucket {bucket}",
            lambda: self._objects.upload_file(
                str(zipped), bucket, key, ExtraArgs={"Metadata": {"sha256": digest}}
            ),
        )

    def _call_s3(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except _S3_ERRORS as error:
            raise TargetError(f"S3: {what}: {error}") from error

    def _pages(self, operation: str, member: str) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            answer = self._call(operation, ApplicationName=self.name, Limit=PAGE_SIZE, **more)
            yield from answer.get(member, [])
            if not answer.get("NextToken"):
                return
            more = {"NextToken": answer["NextToken"]}

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call the service; raises a TargetError by the error's code."""
        try:
            call = getattr(self._service, botocore.xform_name(operation))
            answer: dict[str, Any] = call(**arguments)
            return answer
        except botocore.exceptions.ClientError as error:
            code = error_code(error)
            message = error.response.get("Error", {}).get("Message", "")
            raise _ERROR_TYPES.get(code, TargetError)(
                f"Managed Flink, {operation} of {self.name}: {code}: {message}"
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise TargetError(f"Managed Flink, {operation} of {self.name}: {error}") from error


def create_clients(region: str) -> dict[str, Any]:
    """Return the clients of :class:`ManagedFlink`, as keyword arguments."""
    services = {"service": "kinesisanalyticsv2", "objects": "s3", "metrics": "cloudwatch"}
    return {keyword: sdk_client(service, region) for keyword, service in services.items()}


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
    location: dict[str, str] = code.get("S3ApplicationCodeLocationDescription", {})
    return location


def _groups(properties: Groups) -> list[dict[str, Any]]:
    """Return property groups as the service represents them; it rejects an empty group."""
    return entries_of({name: values for name, values in properties.items() if values})


def _run_configuration(restore: Restore) -> dict[str, Any]:
    configuration: dict[str, Any] = {"ApplicationRestoreType": restore.kind.value}
    if restore.kind is RestoreKind.CUSTOM:
        configuration["SnapshotName"] = restore.snapshot
    return {
        "ApplicationRestoreConfiguration": configuration,
        # If true, state without an operator is lost silently.
        "FlinkRunConfiguration": {"AllowNonRestoredState": False},
    }
