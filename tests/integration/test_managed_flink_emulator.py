"""The aws target against a local kinesisanalyticsv2 over HTTP, with moto's S3 and CloudWatch."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from moto.server import ThreadedMotoServer

from deploy.upgrades.journal import Step
from deploy.upgrades.machine import Change, Limits, UpgradeMachine
from deploy.upgrades.managed_flink import ManagedFlink, ManagedFlinkSettings, clients_of
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
from tests.support.upgrade_contract import Place, TargetContract

REGION, BUCKET, ROLE = "us-east-1", "tunemesh-code", "arn:aws:iam::000000000000:role/tunemesh"
PROPERTIES = {
    "kinesis.analytics.flink.run.options": {"python": "main.py"},
    "tunemesh.application": {"pipelines": "enrichment"},
}


@dataclass(frozen=True, slots=True)
class Cloud:
    """The services, and clients for looking at them."""

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
    """Answers for the service of the present test, so that they share a server and clients."""

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
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    _, port = moto.get_host_and_port()
    with serving(relay) as address, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_ENDPOINT_URL_KINESIS_ANALYTICS_V2": address,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ENDPOINT_URL_CLOUDWATCH": f"http://127.0.0.1:{port}",
        }.items():
            patch.setenv(name, value)
        clients = clients_of(REGION)
        clients["objects"].create_bucket(Bucket=BUCKET)
        clients["objects"].put_bucket_versioning(
            Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
        )
        yield Servers(relay, clients)
    moto.stop()


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
def place(cloud: Cloud, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """An application that no other test has: the metrics of all are in one place."""
    name = "app-" + str(abs(hash(request.node.nodeid)))
    files = {}
    for release in ("tunemesh-stream-0.1.0-aaa", "tunemesh-stream-0.1.0-bbb"):
        files[release] = tmp_path / f"{release}.zip"
        with zipfile.ZipFile(files[release], "w") as archive:
            archive.writestr("release.json", "{}")
            archive.writestr("main.py", release)
    one, other = (Configuration(release, PROPERTIES, 2) for release in files)
    return Place(
        cloud.target(name, tmp_path), one, replace(other, parallelism=3), files, seconds=20
    )


class TestContract(TargetContract):
    """What the state machine relies on."""


def app(cloud: Cloud) -> App:
    (found,) = cloud.service.apps.values()
    return found


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


def machine(place: Place, tmp_path: Path, **verify: Any) -> UpgradeMachine:
    return UpgradeMachine(
        place.target,
        tmp_path / "upgrades" / "aws.json",
        verify=VerifySettings(
            **{"min_seconds": 0.0, "max_seconds": 2.0, "poll_seconds": 0.02, **verify}
        ),
        limits=Limits(snapshot_seconds=20, change_seconds=20, poll_seconds=0.01, retry_seconds=5),
    )


def change(place: Place, **changes: Any) -> Change:
    wanted = place.other
    return replace(Change(wanted, place.files[wanted.release], LATEST), **changes)


def published_when_started(cloud: Cloud) -> None:
    """Let an application have metrics by how its code does, from its start on."""

    def publish(found: App, behaviour: Behaviour) -> None:
        loops = behaviour is Behaviour.LOOPS
        put(cloud, found.name, numRestarts=4.0 if loops else 0.0)
        put(cloud, found.name, lastCheckpointDuration=0.0 if loops else 120.0)

    cloud.service.started = publish


def test_what_an_update_says_of_state_is_said_each_time(place: Place, cloud: Cloud) -> None:
    """The service resets AllowNonRestoredState when it is not named: it is named, and false."""
    place.running()
    seen = place.target.describe()
    place.target.update(seen, place.other, place.files[place.other.release], NOTHING)
    (body,) = cloud.service.called("UpdateApplication")
    assert body["RunConfigurationUpdate"] == {
        "ApplicationRestoreConfiguration": {"ApplicationRestoreType": "SKIP_RESTORE_FROM_SNAPSHOT"},
        "FlinkRunConfiguration": {"AllowNonRestoredState": False},
    }
    assert body["ConditionalToken"] == seen.token


def test_a_new_application_has_snapshots_and_the_services_rollback_on(
    place: Place, cloud: Cloud
) -> None:
    """System rollback is opt-in."""
    place.created()
    (body,) = cloud.service.called("CreateApplication")
    configuration = body["ApplicationConfiguration"]
    assert configuration["ApplicationSnapshotConfiguration"] == {"SnapshotsEnabled": True}
    assert configuration["ApplicationSystemRollbackConfiguration"] == {"RollbackEnabled": True}
    assert body["RuntimeEnvironment"] == "FLINK-2_2"


def test_a_new_application_without_a_role_is_refused_with_what_is_missing(
    place: Place, cloud: Cloud, tmp_path: Path
) -> None:
    """Before anything is uploaded."""
    target = cloud.target("x", tmp_path, role=None)
    with pytest.raises(TargetError, match="--role ARN"):
        target.create(place.one, place.files[place.one.release])


def test_code_is_uploaded_once_and_comes_back_as_files(place: Place, cloud: Cloud) -> None:
    """A key is a content's: the same zip again is not sent again."""
    key = f"tunemesh/{place.one.release}.zip"

    def uploads() -> int:
        return len(cloud.objects.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"])

    place.created()
    first = uploads()
    seen = place.target.describe()
    place.target.update(seen, place.one, place.files[place.one.release], LATEST)
    assert uploads() == first
    folder = place.target.find_files(place.one.release)
    assert folder is not None
    assert (folder / "main.py").read_text() == place.one.release
    assert place.target.find_files("none-of-that-name") is None


def test_a_bucket_that_is_not_there_is_found_before_anything_is_touched(
    place: Place, cloud: Cloud, tmp_path: Path
) -> None:
    """One message, with the bucket's name."""
    target = cloud.target("x", tmp_path, bucket="no-such-bucket")
    with pytest.raises(TargetError, match="S3: the bucket no-such-bucket"):
        target.check(place.one, place.files[place.one.release])
    with pytest.raises(TargetError, match="tunemesh package"):
        target.check(place.one, tmp_path)


def test_more_snapshots_than_a_page_are_all_seen_oldest_first(place: Place, cloud: Cloud) -> None:
    """The service answers 50 at a time, the newest first."""
    place.running()
    for number in range(60):
        place.target.create_snapshot(f"s{number}")
        place.snapshot(f"s{number}")
    assert [s.name for s in place.target.list_snapshots()] == [f"s{n}" for n in range(60)]


def test_an_upgrade_from_beginning_to_end(place: Place, cloud: Cloud, tmp_path: Path) -> None:
    """Slow transitions, throttled calls, a busy moment; old snapshots are pruned."""
    published_when_started(cloud)
    place.running()
    for operation in ("DescribeApplication", "CreateApplicationSnapshot", "UpdateApplication"):
        cloud.service.faults.append(Fault(operation, "ThrottlingException"))
    cloud.service.faults.append(Fault("UpdateApplication", "ResourceInUseException"))
    end = machine(place, tmp_path).begin(change(place, keep=1))
    assert end.step is Step.DONE, end.why
    seen = place.target.describe()
    assert (seen.status, seen.version, seen.configuration) == (Status.RUNNING, 2, place.other)
    # It went on from the snapshot that the service made at the stop.
    (_, restored) = app(cloud).starts
    assert restored["SnapshotName"].startswith("service-")
    # keep=1, and its own, which is spared.
    place.until(lambda: len(place.target.list_snapshots()) <= 2, "old snapshots go")
    assert [s.status for s in place.target.list_snapshots()].count(SnapshotStatus.READY) <= 2


def test_a_lost_answer_gives_no_second_version(place: Place, cloud: Cloud, tmp_path: Path) -> None:
    """The order was carried out and its answer was an error: it is recognized as ours."""
    published_when_started(cloud)
    place.running()
    cloud.service.faults.append(Fault("UpdateApplication", "InternalFailure", after=True))
    end = machine(place, tmp_path).begin(change(place))
    assert end.step is Step.DONE, end.why
    assert place.target.describe().version == 2


def test_a_version_that_fails_is_rolled_back_by_the_service_and_the_reason_told(
    place: Place, cloud: Cloud, tmp_path: Path
) -> None:
    """The failed operation has the reason."""
    published_when_started(cloud)
    cloud.service.behaviours[f"{place.other.release}.zip"] = Behaviour.FAILS
    place.running()
    end = machine(place, tmp_path).begin(change(place))
    assert (end.step, end.by_service) == (Step.ROLLED_BACK, True)
    assert "UpdateApplication: The application's main() ended with exit code 1" in end.why
    seen = place.target.describe()
    assert (seen.status, seen.configuration) == (Status.RUNNING, place.one)
    assert not cloud.service.called("RollbackApplication")


def test_a_version_that_restarts_for_ever_is_rolled_back_by_us(
    place: Place, cloud: Cloud, tmp_path: Path
) -> None:
    """RUNNING to the service; its metrics say otherwise."""
    published_when_started(cloud)
    cloud.service.behaviours[f"{place.other.release}.zip"] = Behaviour.LOOPS
    place.running()
    end = machine(place, tmp_path).begin(change(place))
    assert (end.step, end.by_service) == (Step.ROLLED_BACK, False)
    assert "restarted 4 times" in end.why
    assert len(cloud.service.called("RollbackApplication")) == 1
    seen = place.target.describe()
    assert (seen.status, seen.configuration) == (Status.RUNNING, place.one)
    assert app(cloud).starts[-1]["SnapshotName"] == [
        s.name for s in place.target.list_snapshots() if s.version == 1
    ][-1]  # fmt: skip


def test_a_change_that_hangs_is_rolled_back(place: Place, cloud: Cloud, tmp_path: Path) -> None:
    """UPDATING for too long."""
    published_when_started(cloud)
    cloud.service.behaviours[f"{place.other.release}.zip"] = Behaviour.HANGS
    place.running()
    its = machine(place, tmp_path)
    its = replace(its, limits=replace(its.limits, change_seconds=1.0))
    end = its.begin(change(place))
    assert end.step is Step.ROLLED_BACK
    assert "still UPDATING" in end.why
    assert place.target.describe().configuration == place.one


def test_without_system_rollback_the_former_version_is_started_again(
    place: Place, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own rollback failed, or is off: the application is READY, with the new code."""
    published_when_started(cloud)
    cloud.service.behaviours[f"{place.other.release}.zip"] = Behaviour.FAILS
    place.running()
    update = cloud.service._merged
    off = {"ApplicationSystemRollbackConfiguration": {"RollbackEnabled": False}}
    monkeypatch.setattr(
        cloud.service, "_merged", lambda found, body: {**update(found, body), **off}
    )
    end = machine(place, tmp_path).begin(change(place))
    assert end.step is Step.ROLLED_BACK
    seen = place.target.describe()
    assert (seen.status, seen.configuration) == (Status.RUNNING, place.one)
    assert app(cloud).starts[-1]["ApplicationRestoreType"] == "RESTORE_FROM_CUSTOM_SNAPSHOT"


class _Gone(BaseException):
    """The client is killed."""


@pytest.mark.parametrize(
    "operation", ["CreateApplicationSnapshot", "UpdateApplication", "DescribeApplication"]
)
def test_an_interrupted_client_is_followed_by_one_that_goes_on(
    place: Place,
    cloud: Cloud,
    tmp_path: Path,
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed right after an order: the next client finds the journal, and gives no order twice."""
    published_when_started(cloud)
    place.running()
    its = machine(place, tmp_path)
    target = place.target
    assert isinstance(target, ManagedFlink)
    calls = []
    whole = target._call

    def call(name: str, **arguments: Any) -> dict[str, Any]:
        answer = whole(name, **arguments)
        calls.append(name)
        if name == operation and calls.count(name) == (5 if name.startswith("Describe") else 1):
            raise _Gone
        return answer

    monkeypatch.setattr(target, "_call", call)
    with pytest.raises(_Gone):
        its.begin(change(place))
    its = replace(its, target=cloud.target(target.name, tmp_path / "again"))
    present = its.read_journal()
    assert present is not None
    assert not present.is_ended
    end = its.resume(present)
    assert end.step is Step.DONE, end.why
    assert len(cloud.service.called("UpdateApplication")) == 1
    assert len(cloud.service.called("CreateApplicationSnapshot")) == 1


def test_a_stale_version_number_is_refused_by_the_service(place: Place, cloud: Cloud) -> None:
    """Without a token the version's number does it."""
    place.running()
    seen = replace(place.target.describe(), token="", version=9)
    with pytest.raises(ConcurrentChangeError):
        place.target.update(seen, place.other, place.files[place.other.release], LATEST)


def test_requests_are_held_to_botocores_model(cloud: Cloud, tmp_path: Path) -> None:
    """A name that botocore lets through and the service does not."""
    target = cloud.target("no spaces", tmp_path)
    with pytest.raises(TargetError, match="regular expression pattern") as caught:
        target.describe()
    assert not isinstance(caught.value, NoApplicationError)


def test_health_is_read_from_cloudwatch(place: Place, cloud: Cloud) -> None:
    """Restarts, checkpoints, lag, and our own counters by function."""
    place.running()
    put(
        cloud,
        place.target.name,
        numRestarts=0.0,
        lastCheckpointDuration=300.0,
        records_lag_max=12.0,
        decoded__decode_interaction=500.0,
        dead_letters__decode_interaction=5.0,
    )
    health = place.target.read_health()
    assert (health.running, health.restarts, health.checkpoints) == (True, 0, 1)
    flow = health.flows["interactions"]
    assert (flow.delivered, flow.dead_letters) == (500, 5)
    assert (health.flows["all"].behind, health.flows["all"].counted) == (12, True)


def test_where_our_own_counters_are_not_shown_standing_still_is_not_concluded(
    place: Place, cloud: Cloud
) -> None:
    """The service's lag alone: records come in, and what comes out is not known."""
    place.running()
    put(
        cloud,
        place.target.name,
        numRestarts=0.0,
        lastCheckpointDuration=300.0,
        records_lag_max=12.0,
    )
    health = place.target.read_health()
    assert not health.flows["all"].counted
    assert judge(health, health, health, VerifySettings()).is_healthy
    counted = replace(health, flows={"all": FlowHealth(behind=12)})
    assert judge(counted, counted, counted, VerifySettings()).pending == (
        "nothing is delivered of all",
    )
