"""The aws target against a local kinesisanalyticsv2 over HTTP, with moto's S3 and CloudWatch."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from deploy.package.archive import make_zip
from deploy.package.errors import ContentError
from deploy.upgrades.journal import Journal, Step
from deploy.upgrades.machine import Change, Limits, UpgradeMachine
from deploy.upgrades.managed_flink import ManagedFlink, ManagedFlinkSettings, create_clients
from deploy.upgrades.target import (
    LATEST,
    NOTHING,
    ConcurrentChangeError,
    Configuration,
    FlowHealth,
    NoApplicationError,
    SnapshotStatus,
    Status,
    TargetError,
)
from deploy.upgrades.verification import VerifySettings, judge
from emulators.managed_flink.records import App, Behaviour, Fault
from emulators.managed_flink.server import serving
from emulators.managed_flink.service import Service
from tests.support.clock import StoppedTime
from tests.support.releases import package_folder
from tests.support.servers import moto_server
from tests.support.upgrade_contract import TargetCase, TargetContract
from tests.support.waiting import LIMIT_SECONDS

REGION, BUCKET, ROLE = "us-east-1", "tunemesh-code", "arn:aws:iam::000000000000:role/tunemesh"
HEALTHY = {"numRestarts": 0.0, "lastCheckpointDuration": 300.0, "records_lag_max": 12.0}
PROPERTIES = {
    "kinesis.analytics.flink.run.options": {"python": "main.py"},
    "tunemesh.application": {"pipelines": "enrichment"},
}


@dataclass(frozen=True, slots=True)
class Cloud:
    """The services, and their clients."""

    service: Service
    clients: dict[str, Any]

    @property
    def objects(self) -> Any:
        return self.clients["objects"]

    @property
    def metrics(self) -> Any:
        return self.clients["metrics"]

    def target(
        self, name: str, folder: Path, bucket: str = BUCKET, role: str | None = ROLE
    ) -> ManagedFlink:
        settings = ManagedFlinkSettings(REGION, bucket, role=role)
        return ManagedFlink(name, settings, folder / "releases", **self.clients)


class Relay:
    """Forwards to the service of the present test, so that tests share a server and clients."""

    service: Service

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.service.answer(operation, body)


@dataclass(frozen=True, slots=True)
class Servers:
    """What the tests of this module share."""

    relay: Relay
    clients: dict[str, Any]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """The servers, and clients that found them in the usual environment."""
    relay = Relay()
    with (
        moto_server() as moto,
        serving(relay) as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_ENDPOINT_URL_KINESIS_ANALYTICS_V2": address,
            "AWS_ENDPOINT_URL_S3": moto,
            "AWS_ENDPOINT_URL_CLOUDWATCH": moto,
        }.items():
            patch.setenv(name, value)
        clients = create_clients(REGION)
        clients["objects"].create_bucket(Bucket=BUCKET)
        clients["objects"].put_bucket_versioning(
            Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
        )
        yield Servers(relay, clients)


@pytest.fixture
def cloud(servers: Servers) -> Cloud:
    """A service of its own."""
    servers.relay.service = Service()

    def exists(bucket: str, key: str) -> bool:
        try:
            return bool(servers.clients["objects"].head_object(Bucket=bucket, Key=key))
        except botocore.exceptions.ClientError:
            return False

    servers.relay.service.object_exists = exists
    return Cloud(servers.relay.service, servers.clients)


@pytest.fixture
def case(cloud: Cloud, tmp_path: Path, request: pytest.FixtureRequest) -> TargetCase:
    """An application with a unique name: the metrics of all tests are in one namespace."""
    name = "app-" + str(abs(hash(request.node.nodeid)))
    files = {}
    for mark in ("aaa", "bbb"):
        folder = tmp_path / mark
        folder.mkdir()
        (folder / "main.py").write_text(mark)
        release = package_folder(folder)
        files[release] = tmp_path / f"{release}.zip"
        members = {file.name: file.read_bytes() for file in folder.iterdir()}
        files[release].write_bytes(make_zip(members))
    one, other = (Configuration(release, PROPERTIES, 2) for release in files)
    return TargetCase(
        cloud.target(name, tmp_path),
        one,
        replace(other, parallelism=3),
        files,
        seconds=LIMIT_SECONDS,
    )


class TestContract(TargetContract):
    """The contract of targets."""


def app(cloud: Cloud) -> App:
    (only,) = cloud.service.apps.values()
    return only


def put(cloud: Cloud, name: str, **values: float) -> None:
    """Metrics as the service publishes them."""
    cloud.metrics.put_metric_data(
        Namespace="AWS/KinesisAnalytics",
        MetricData=[
            {
                "MetricName": metric,
                "Dimensions": [{"Name": "Application", "Value": name}, *dimensions],
                "Value": value,
                "Timestamp": datetime.fromtimestamp(cloud.service.now(), UTC),
            }
            for key, value in values.items()
            for metric, _, function in [key.partition("__")]
            for dimensions in [[{"Name": "function", "Value": function}] if function else []]
        ],
    )


def machine(case: TargetCase, tmp_path: Path, **verify: Any) -> UpgradeMachine:
    return UpgradeMachine(
        case.target,
        tmp_path / "upgrades" / "aws.json",
        verify=VerifySettings(
            **{"min_seconds": 0.0, "max_seconds": 2.0, "poll_seconds": 0.1, **verify}
        ),
        limits=Limits(snapshot_seconds=20, change_seconds=20, poll_seconds=0.1, retry_seconds=5),
        # The emulator's time is counted in polls, so no limit depends on how long they take.
        clock=StoppedTime(time.time()).clock,
    )


def change(case: TargetCase, **changes: Any) -> Change:
    wanted = case.other
    return replace(Change(wanted, case.files[wanted.release], LATEST), **changes)


def publish_from_start(cloud: Cloud) -> None:
    """Publish metrics of each application from its start, by the behaviour of its code."""

    def publish(started: App, behaviour: Behaviour) -> None:
        loops = behaviour is Behaviour.LOOPS
        put(cloud, started.name, numRestarts=4.0 if loops else 0.0)
        put(cloud, started.name, lastCheckpointDuration=0.0 if loops else 120.0)

    cloud.service.started = publish


def upgrade(
    case: TargetCase, cloud: Cloud, folder: Path, behaviour: Behaviour | None = None
) -> Journal:
    """Upgrade a running application to a version that behaves so."""
    publish_from_start(cloud)
    if behaviour is not None:
        cloud.service.behaviours[f"{case.other.release}.zip"] = behaviour
    case.start()
    return machine(case, folder).begin(change(case))


def assert_runs_again(case: TargetCase) -> None:
    seen = case.target.describe()
    assert (seen.status, seen.configuration) == (Status.RUNNING, case.one)


def test_every_update_has_its_restore_configuration(case: TargetCase, cloud: Cloud) -> None:
    """The service resets AllowNonRestoredState in an update without it: it is sent, and false."""
    case.start()
    seen = case.target.describe()
    case.target.update(seen, case.other, case.files[case.other.release], NOTHING)
    (body,) = cloud.service.calls_of("UpdateApplication")
    assert body["RunConfigurationUpdate"] == {
        "ApplicationRestoreConfiguration": {"ApplicationRestoreType": "SKIP_RESTORE_FROM_SNAPSHOT"},
        "FlinkRunConfiguration": {"AllowNonRestoredState": False},
    }
    assert body["ConditionalToken"] == seen.token


def test_a_new_application_has_snapshots_and_the_services_rollback_on(
    case: TargetCase, cloud: Cloud
) -> None:
    """System rollback is opt-in."""
    case.create()
    (body,) = cloud.service.calls_of("CreateApplication")
    configuration = body["ApplicationConfiguration"]
    assert configuration["ApplicationSnapshotConfiguration"] == {"SnapshotsEnabled": True}
    assert configuration["ApplicationSystemRollbackConfiguration"] == {"RollbackEnabled": True}
    assert body["RuntimeEnvironment"] == "FLINK-2_2"


def test_a_new_application_without_a_role_is_refused_with_what_is_missing(
    case: TargetCase, cloud: Cloud, tmp_path: Path
) -> None:
    """Before anything is uploaded."""
    target = cloud.target("x", tmp_path, role=None)
    with pytest.raises(TargetError, match="--role ARN"):
        target.create(case.one, case.files[case.one.release])


def test_code_is_uploaded_once_and_can_be_downloaded(case: TargetCase, cloud: Cloud) -> None:
    """Keys depend on the content: the same zip is not uploaded twice."""
    key = f"tunemesh/{case.one.release}.zip"

    def uploads() -> int:
        return len(cloud.objects.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"])

    case.create()
    first = uploads()
    seen = case.target.describe()
    case.target.update(seen, case.one, case.files[case.one.release], LATEST)
    assert uploads() == first
    folder = case.target.find_files(case.one.release)
    assert folder is not None
    assert (folder / "main.py").read_text() == "aaa"
    assert case.target.find_files("none-of-that-name") is None


@pytest.mark.parametrize("change", ["another release", "other files"])
def test_a_release_that_was_changed_in_the_bucket_is_refused(
    case: TargetCase, cloud: Cloud, change: str
) -> None:
    """Whoever may write to the bucket could run code on the operator's machine."""
    one, other = case.one.release, case.files[case.other.release].read_bytes()
    body = other
    if change == "other files":
        with zipfile.ZipFile(case.files[one]) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        body = make_zip({**members, "main.py": b"import os"})
    case.create()
    cloud.objects.put_object(Bucket=BUCKET, Key=f"tunemesh/{one}.zip", Body=body)
    with pytest.raises(ContentError, match="another one" if body == other else "were changed"):
        case.target.find_files(one)
    cloud.objects.put_object(
        Bucket=BUCKET, Key=f"tunemesh/{one}.zip", Body=case.files[one].read_bytes()
    )
    folder = case.target.find_files(one)
    assert folder is not None
    (folder / "more.py").write_text("import os")
    with pytest.raises(ContentError, match="were changed"):
        case.target.find_files(one)


def test_a_missing_bucket_is_found_before_anything_is_changed(
    case: TargetCase, cloud: Cloud, tmp_path: Path
) -> None:
    """One message, with the bucket's name."""
    target = cloud.target("x", tmp_path, bucket="no-such-bucket")
    with pytest.raises(TargetError, match="the bucket no-such-bucket"):
        target.check(case.one, case.files[case.one.release])
    with pytest.raises(TargetError, match="tunemesh package"):
        target.check(case.one, tmp_path)


def test_more_snapshots_than_a_page_are_listed_oldest_first(case: TargetCase, cloud: Cloud) -> None:
    """The service returns 50 per call, the newest first."""
    case.start()
    for number in range(60):
        case.target.create_snapshot(f"s{number}")
        case.wait_snapshot(f"s{number}")
    assert [s.name for s in case.target.list_snapshots()] == [f"s{n}" for n in range(60)]


def test_an_upgrade_from_beginning_to_end(case: TargetCase, cloud: Cloud, tmp_path: Path) -> None:
    """Slow transitions, throttled calls, a busy application; old snapshots are deleted."""
    publish_from_start(cloud)
    case.start()
    for operation in ("DescribeApplication", "CreateApplicationSnapshot", "UpdateApplication"):
        cloud.service.faults.append(Fault(operation, "ThrottlingException"))
    cloud.service.faults.append(Fault("UpdateApplication", "ResourceInUseException"))
    end = machine(case, tmp_path).begin(change(case, keep=1))
    assert end.step is Step.DONE, end.why
    seen = case.target.describe()
    assert (seen.status, seen.version, seen.configuration) == (Status.RUNNING, 2, case.other)
    # It was restored from the snapshot that the service created at the stop.
    (_, restored) = app(cloud).starts
    assert restored["SnapshotName"].startswith("service-")
    # keep=1, and the upgrade's own, which is kept as well.
    case.wait_until(lambda: len(case.target.list_snapshots()) <= 2, "old snapshots are deleted")
    assert [s.status for s in case.target.list_snapshots()].count(SnapshotStatus.READY) <= 2


def test_a_lost_answer_adds_no_version(case: TargetCase, cloud: Cloud, tmp_path: Path) -> None:
    """The order was carried out but answered by an error: the version is recognised."""
    publish_from_start(cloud)
    case.start()
    cloud.service.faults.append(Fault("UpdateApplication", "InternalFailure", after=True))
    end = machine(case, tmp_path).begin(change(case))
    assert end.step is Step.DONE, end.why
    assert case.target.describe().version == 2


def test_a_version_that_fails_is_rolled_back_by_the_service_and_the_reason_reported(
    case: TargetCase, cloud: Cloud, tmp_path: Path
) -> None:
    """The failed operation has the reason."""
    end = upgrade(case, cloud, tmp_path, Behaviour.FAILS)
    assert (end.step, end.by_service) == (Step.ROLLED_BACK, True)
    assert "UpdateApplication: The application's main() ended with exit code 1" in end.why
    assert_runs_again(case)
    assert not cloud.service.calls_of("RollbackApplication")


def test_a_version_that_restarts_in_a_loop_is_rolled_back_by_the_upgrade(
    case: TargetCase, cloud: Cloud, tmp_path: Path
) -> None:
    """The service reports RUNNING; the metrics show restarts."""
    end = upgrade(case, cloud, tmp_path, Behaviour.LOOPS)
    assert (end.step, end.by_service) == (Step.ROLLED_BACK, False)
    assert "restarted 4 times" in end.why
    assert len(cloud.service.calls_of("RollbackApplication")) == 1
    assert_runs_again(case)
    assert app(cloud).starts[-1]["SnapshotName"] == [
        s.name for s in case.target.list_snapshots() if s.version == 1
    ][-1]  # fmt: skip


def test_a_change_that_hangs_is_rolled_back(case: TargetCase, cloud: Cloud, tmp_path: Path) -> None:
    """UPDATING for too long."""
    publish_from_start(cloud)
    cloud.service.behaviours[f"{case.other.release}.zip"] = Behaviour.HANGS
    case.start()
    its = machine(case, tmp_path)
    its = replace(its, limits=replace(its.limits, change_seconds=1.0))
    end = its.begin(change(case))
    assert end.step is Step.ROLLED_BACK
    assert "still UPDATING" in end.why
    assert case.target.describe().configuration == case.one


def test_without_system_rollback_the_former_version_is_started_again(
    case: TargetCase, cloud: Cloud, tmp_path: Path
) -> None:
    """Its own rollback failed, or is off: the application is READY, with the new code."""
    publish_from_start(cloud)
    cloud.service.behaviours[f"{case.other.release}.zip"] = Behaviour.FAILS
    case.start()
    cloud.service.configuration_overrides = {
        "ApplicationSystemRollbackConfiguration": {"RollbackEnabled": False}
    }
    end = machine(case, tmp_path).begin(change(case))
    assert end.step is Step.ROLLED_BACK
    assert_runs_again(case)
    assert app(cloud).starts[-1]["ApplicationRestoreType"] == "RESTORE_FROM_CUSTOM_SNAPSHOT"


class _Gone(BaseException):
    """Stands for the kill of the client."""


@pytest.mark.parametrize(
    "operation", ["CreateApplicationSnapshot", "UpdateApplication", "DescribeApplication"]
)
def test_after_an_interrupted_client_the_next_one_continues(
    case: TargetCase, cloud: Cloud, tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after an order: the next client reads the journal, and repeats no order."""
    publish_from_start(cloud)
    case.start()
    its = machine(case, tmp_path)
    target = case.target
    assert isinstance(target, ManagedFlink)
    calls = []
    send = target._call

    def call(name: str, **arguments: Any) -> dict[str, Any]:
        answer = send(name, **arguments)
        calls.append(name)
        if name == operation and calls.count(name) == (5 if name.startswith("Describe") else 1):
            raise _Gone
        return answer

    monkeypatch.setattr(target, "_call", call)
    with pytest.raises(_Gone):
        its.begin(change(case))
    its = replace(its, target=cloud.target(target.name, tmp_path / "again"))
    present = its.read_journal()
    assert present is not None
    assert not present.is_ended
    end = its.resume(present)
    assert end.step is Step.DONE, end.why
    assert len(cloud.service.calls_of("UpdateApplication")) == 1
    assert len(cloud.service.calls_of("CreateApplicationSnapshot")) == 1


def test_a_stale_version_number_is_refused_by_the_service(case: TargetCase, cloud: Cloud) -> None:
    """Without a token the version's number is sent."""
    case.start()
    seen = replace(case.target.describe(), token="", version=9)
    with pytest.raises(ConcurrentChangeError):
        case.target.update(seen, case.other, case.files[case.other.release], LATEST)


def test_the_emulator_validates_requests_by_botocores_model(cloud: Cloud, tmp_path: Path) -> None:
    """A name that botocore accepts and the service rejects."""
    target = cloud.target("no spaces", tmp_path)
    with pytest.raises(TargetError, match="regular expression pattern") as caught:
        target.describe()
    assert not isinstance(caught.value, NoApplicationError)


def test_health_is_read_from_cloudwatch(case: TargetCase, cloud: Cloud) -> None:
    """Restarts, checkpoints, lag, and the application's own counters by function."""
    case.start()
    counted = {"decoded__decode_interaction": 500.0, "dead_letters__decode_interaction": 5.0}
    put(cloud, case.target.name, **HEALTHY, **counted)
    health = case.target.read_health()
    assert (health.running, health.restarts, health.checkpoints) == (True, 0, 1)
    flow = health.flows["interactions"]
    assert (flow.delivered, flow.dead_letters) == (500, 5)
    assert (health.flows["all"].behind, health.flows["all"].counted) == (12, True)


def test_without_the_applications_own_counters_missing_deliveries_are_not_concluded(
    case: TargetCase, cloud: Cloud
) -> None:
    """With the lag alone: records are read, and deliveries are unknown."""
    case.start()
    put(cloud, case.target.name, **HEALTHY)
    health = case.target.read_health()
    assert not health.flows["all"].counted
    assert judge(health, health, health, VerifySettings()).is_healthy
    counted = replace(health, flows={"all": FlowHealth(behind=12)})
    assert judge(counted, counted, counted, VerifySettings()).pending == (
        "nothing is delivered of all",
    )
