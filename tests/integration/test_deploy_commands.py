"""`tunemesh deploy --target aws` as an operator gives it: every message, every way it ends.

The service is the local kinesisanalyticsv2; S3, CloudWatch and the schema registry are moto's.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli import deploy as commands
from cli import deploy_options
from cli import main as cli
from connectors.aws.sdk import sdk_client
from connectors.flink.properties import write_groups
from connectors.glue.registry import GlueRegistry
from deploy.local.settings import PROJECT
from deploy.package.archive import content_hash
from deploy.package.contents import APPLICATIONS, ENTRY, entry_script, read_code
from deploy.package.release import RUNTIME, PackageDescription, describe_plan, describe_plans
from deploy.upgrades.machine import UpgradeMachine
from deploy.upgrades.verification import VerifySettings
from emulators.managed_flink.records import App, Behaviour
from emulators.managed_flink.server import serving
from emulators.managed_flink.service import Service
from schemas.model import BUILT_IN_FOLDER, load_contracts
from tests.support.clock import StoppedTime
from tests.support.servers import moto_server
from tests.support.waiting import wait_until

REGION, BUCKET = "us-east-1", "tunemesh-code"
ROLE = "arn:aws:iam::000000000000:role/tunemesh"


@dataclass(slots=True)
class Operator:
    """An operator at a terminal."""

    service: Service
    folder: Path
    capsys: pytest.CaptureFixture[str]
    output: str = ""
    names: dict[str, str] = field(default_factory=dict)
    """The name of each release by its mark."""

    def deploy(self, *arguments: str) -> int:
        """Run a command; returns its exit code, and keeps its output in ``output``."""
        where = ("--target", "aws", "--region", REGION, "--bucket", BUCKET)
        code = cli.run(cli.tunemesh, ["deploy", arguments[0], *where, *arguments[1:]])
        captured = self.capsys.readouterr()
        self.output = captured.out + captured.err
        assert "Traceback" not in self.output
        return code

    def release(self, mark: str, *, plan: bool = False) -> str:
        """Build a package without jars and wheels, which differs by its mark; ``plan``: with
        another plan."""
        members = {
            "mark.txt": mark.encode(),
            ENTRY: entry_script(APPLICATIONS["stream"]),
            **read_code(PROJECT, APPLICATIONS["stream"]),
        }
        if plan:
            name = "jobs/plans/enrichment.json"
            content = json.loads(members[name])
            for node in content["nodes"]:
                node["id"] += 1000
            for edge in content["edges"]:
                edge["source"] += 1000
                edge["target"] += 1000
            members[name] = json.dumps(content).encode()
            assert describe_plan(members[name].decode())
        description = PackageDescription(
            "stream",
            "0.1.0",
            content_hash(members),
            "3.12",
            RUNTIME,
            describe_plans(members),
            {},
            "layout",
        )
        self.names[mark] = description.name
        path = self.folder / f"{description.name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**members, "release.json": description.json()}.items():
                archive.writestr(name, content)
        return str(path)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """S3 with the bucket, CloudWatch, and a registry with the contracts."""
    with moto_server() as address:
        registry = GlueRegistry.connect(REGION, address, "tunemesh")
        for contract in load_contracts((BUILT_IN_FOLDER,)):
            registry.register(contract)
        sdk_client("s3", REGION, address).create_bucket(Bucket=BUCKET)
        yield address


@pytest.fixture
def operator(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Operator]:
    """With an environment that points to all of it, and an application that runs."""
    service = Service()
    quick = VerifySettings(min_seconds=0, max_seconds=1, poll_seconds=0.05, min_checkpoints=0)
    monkeypatch.setattr(deploy_options, "AWS_VERIFY", quick)
    # The emulator's time is counted in polls, so no limit depends on how long they take.
    machine = partial(UpgradeMachine, clock=StoppedTime(time.time()).clock)
    monkeypatch.setattr(deploy_options, "UpgradeMachine", machine)
    with serving(service) as address:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_ENDPOINT_URL_KINESIS_ANALYTICS_V2": address,
            "AWS_ENDPOINT_URL_S3": moto,
            "AWS_ENDPOINT_URL_CLOUDWATCH": moto,
            "TUNEMESH_HOME": str(tmp_path / "home"),
        }.items():
            monkeypatch.setenv(name, value)
        made = Operator(service, tmp_path, capsys)
        properties = {
            "tunemesh.application": {"pipelines": "enrichment"},
            "tunemesh.kafka": {"bootstrap.servers": "127.0.0.1:1"},
            "tunemesh.registry": {"region": REGION, "endpoint.url": moto},
        }
        file = tmp_path / "properties.json"
        write_groups(file, properties)
        one = made.release("1")
        done = made.deploy(
            "submit", one, "--properties", str(file), "--role", ROLE, "--parallelism", "2"
        )
        assert done == 0, made.output
        yield made


def status(operator: Operator) -> dict[str, Any]:
    assert operator.deploy("status", "--json") == 0
    found: dict[str, Any] = json.loads(operator.output)
    return found


def create_snapshot(operator: Operator) -> None:
    """Create the snapshot by-hand, and wait until it is complete."""

    def is_ready() -> bool:
        assert operator.deploy("snapshots") == 0
        return "READY" in operator.output

    assert operator.deploy("snapshots", "--create", "by-hand") == 0
    assert "by-hand" in operator.output
    wait_until(is_ready, "the snapshot by-hand is complete")


def assert_restored_from_version_1(app: App) -> None:
    assert app.starts[-1]["SnapshotName"] in [s.name for s in app.snapshots if s.version == 1]


def test_a_submitted_application_has_the_run_options_of_its_package(operator: Operator) -> None:
    """They make the service find entry, jar and wheels."""
    seen = status(operator)
    assert (seen["status"], seen["version"], seen["parallelism"]) == ("RUNNING", 1, 2)
    assert seen["properties"]["kinesis.analytics.flink.run.options"]["python"] == "main.py"


def test_an_upgrade_reports_how_the_state_fits_and_is_done(operator: Operator) -> None:
    """The new version is configured as restored."""
    assert operator.deploy("upgrade", operator.release("2"), "--parallelism", "4") == 0
    assert "the plan is the same, the state fits (same)" in operator.output
    assert f"done: {operator.names['2']} runs" in operator.output
    seen = status(operator)
    assert (seen["version"], seen["parallelism"]) == (2, 4)
    assert seen["properties"]["tunemesh.enrichment"] == {"restored": "true"}


def test_a_dry_run_prints_the_steps_and_touches_nothing(operator: Operator) -> None:
    """Not even a snapshot."""
    assert operator.deploy("upgrade", operator.release("2"), "--dry-run") == 0
    for word in ("1 snapshot", "2 update", "3 wait", "4 verify", "5 prune", "nothing was changed"):
        assert word in operator.output
    called = {name for name, _ in operator.service.calls}
    assert not called & {"UpdateApplication", "CreateApplicationSnapshot"}


def test_a_plan_that_does_not_fit_needs_consent(operator: Operator) -> None:
    """The operators that lose their state are reported; with --rebuild none is restored."""
    other = operator.release("3", plan=True)
    assert operator.deploy("upgrade", other) == 3
    assert "is not in the new plan" in operator.output
    assert "--rebuild" in operator.output
    assert status(operator)["version"] == 1
    assert operator.deploy("upgrade", other, "--rebuild") == 0
    (body,) = operator.service.calls_of("UpdateApplication")
    restore = body["RunConfigurationUpdate"]["ApplicationRestoreConfiguration"]
    assert restore == {"ApplicationRestoreType": "SKIP_RESTORE_FROM_SNAPSHOT"}
    enrichment = status(operator)["properties"]["tunemesh.enrichment"]
    assert enrichment == {"restored": "false", "start": "committed"}


def test_a_failed_upgrade_reports_the_reason_and_has_its_own_exit_code(operator: Operator) -> None:
    """The former version runs again."""
    two = operator.release("2")
    operator.service.behaviours[f"{operator.names['2']}.zip"] = Behaviour.FAILS
    assert operator.deploy("upgrade", two) == commands.ROLLED_BACK
    assert f"rolled back: {operator.names['1']} runs again" in operator.output
    assert "exit code 1" in operator.output
    seen = status(operator)
    assert seen["status"] == "RUNNING"
    assert seen["release"] == operator.names["1"]
    assert operator.deploy("status") == 0
    assert f"last upgrade, to {operator.names['2']}: rolled back" in operator.output


def test_a_rollback_with_the_same_plan_keeps_the_present_state(operator: Operator) -> None:
    """It is an upgrade back: nothing that has come since is read again."""
    assert operator.deploy("upgrade", operator.release("2")) == 0
    assert operator.deploy("rollback") == 0
    assert "the present state is kept" in operator.output
    seen = status(operator)
    assert seen["release"] == operator.names["1"]
    assert not operator.service.calls_of("RollbackApplication")
    upgrade = {"to": operator.names["2"], "step": "rolled back", "why": ""}
    assert seen["upgrade"] == upgrade
    assert operator.deploy("status") == 0
    assert f"last upgrade, to {operator.names['2']}: rolled back" in operator.output
    assert operator.deploy("rollback") == 1
    assert "the last upgrade was rolled back already" in operator.output


def test_a_rollback_to_another_plan_takes_its_own_snapshot(operator: Operator) -> None:
    """The state that the new plan has made does not fit the former one."""
    assert operator.deploy("upgrade", operator.release("3", plan=True), "--rebuild") == 0
    assert operator.deploy("rollback") == 0
    (app,) = operator.service.apps.values()
    assert app.key.endswith(f"{operator.names['1']}.zip")
    assert_restored_from_version_1(app)


def test_a_setting_that_the_release_does_not_know_is_found_before(operator: Operator) -> None:
    """With its name and what there is."""
    assert operator.deploy("upgrade", "--set", "tunemesh.enrichment:begin=latest") == 3
    assert "'begin'" in operator.output
    assert "restored, start" in operator.output
    assert not operator.service.calls_of("UpdateApplication")


def test_snapshots_are_made_listed_pruned_and_deleted(operator: Operator) -> None:
    """A line each."""
    create_snapshot(operator)
    assert operator.deploy("snapshots", "--delete", "by-hand") == 0
    assert operator.deploy("snapshots", "--delete", "no-such") == 1
    assert "no snapshot no-such" in operator.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("upgrade",), "runs {one} with these settings already"),
        (("submit",), "already exists (RUNNING"),
        (("rollback",), "has not been upgraded from this machine"),
        (("status", "--application", "other"), "ResourceNotFoundException"),
        (("submit", "--application", "other"), "a new application needs a release"),
    ],
)
def test_a_mistake_is_one_message(
    operator: Operator, arguments: tuple[str, ...], message: str
) -> None:
    """And changes nothing."""
    assert operator.deploy(*arguments) != 0
    assert message.format(one=operator.names["1"]) in operator.output
    assert not operator.service.calls_of("UpdateApplication")


def test_a_version_that_restarts_is_replaced_by_force(operator: Operator) -> None:
    """No snapshot can be created of it: the message names --force, which restores the last one."""
    create_snapshot(operator)
    operator.service.behaviours[f"{operator.names['1']}.zip"] = Behaviour.LOOPS
    two = operator.release("2")
    assert operator.deploy("upgrade", two) == 1
    assert "tunemesh was not changed: the snapshot" in operator.output
    assert "--force" in operator.output
    assert status(operator)["version"] == 1
    assert operator.deploy("upgrade", two, "--force", "--dry-run") == 0
    assert "1 stop        by force" in operator.output
    assert operator.deploy("upgrade", two, "--force") == 0
    seen = status(operator)
    assert (seen["status"], seen["version"]) == ("RUNNING", 2)
    (app,) = operator.service.apps.values()
    assert app.starts[-1]["SnapshotName"] == "by-hand"
    assert operator.deploy("snapshots", "--delete", "by-hand") == 1
    assert "is kept" in operator.output


def test_an_upgraded_version_that_restarts_later_has_a_way_back(operator: Operator) -> None:
    """The upgrade was done; of what it led to no snapshot can be made any more."""
    assert operator.deploy("upgrade", operator.release("2")) == 0
    operator.service.behaviours[f"{operator.names['2']}.zip"] = Behaviour.LOOPS
    assert operator.deploy("rollback") == 0
    assert "failed; restoring the state of the former version" in operator.output
    seen = status(operator)
    assert (seen["status"], seen["release"]) == ("RUNNING", operator.names["1"])
    (app,) = operator.service.apps.values()
    assert_restored_from_version_1(app)


def test_an_application_that_did_not_start_is_corrected(operator: Operator) -> None:
    """It has never run: there is no snapshot, and a rollback leaves it stopped."""
    file = str(operator.folder / "properties.json")
    name = ("--application", "other")
    three = operator.release("3")
    operator.service.behaviours[f"{operator.names['3']}.zip"] = Behaviour.FAILS
    assert operator.deploy("submit", three, *name, "--properties", file, "--role", ROLE) == 1
    assert "other did not start" in operator.output
    assert operator.deploy("upgrade", three, *name) == 1
    assert "--force changes a stopped one" in operator.output
    assert operator.deploy("upgrade", three, *name, "--force") == commands.ROLLED_BACK
    assert "is restored, stopped as before" in operator.output
    assert operator.deploy("upgrade", operator.release("4"), *name, "--force") == 0
    assert "there is no snapshot: it starts from the topics" in operator.output
    assert operator.service.apps["other"].status == "RUNNING"


@pytest.mark.parametrize(
    "elsewhere", [("--prefix", "other/"), ("--bucket", "another-bucket")], ids=["prefix", "bucket"]
)
def test_code_that_is_not_where_the_options_lead_is_found_before(
    operator: Operator, elsewhere: tuple[str, str]
) -> None:
    """A rollback would look for the former code there."""
    assert operator.deploy("upgrade", operator.release("2"), *elsewhere) == 1
    assert f"is tunemesh/{operator.names['1']}.zip in the bucket" in operator.output
    assert not operator.service.calls_of("UpdateApplication")
