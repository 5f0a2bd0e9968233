"""The contract of targets on a local cluster.

The releases are small: a job of one SQL statement, submitted through the same gate.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from connectors.flink.properties import read_groups
from deploy.local import platform, process
from deploy.local.flink import FlinkError, FlinkRest
from deploy.local.flink_workers import TASKMANAGER
from deploy.local.settings import PROJECT, LocalSettings
from deploy.upgrades.local_cluster import LocalCluster
from deploy.upgrades.prepared_submission import PreparedSubmission
from deploy.upgrades.target import LATEST, NOTHING, Configuration, NoApplicationError, Status
from tests.support.ports import free_port
from tests.support.releases import package_folder
from tests.support.upgrade_contract import TargetCase, TargetContract

pytestmark = pytest.mark.timeout(900)

MAIN = """
import argparse
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment

from jobs.submission import gate

options = argparse.ArgumentParser()
options.add_argument("--properties", type=Path)
options.add_argument("--gate", type=Path)
options.add_argument("--warm", action="store_true")
chosen = options.parse_args()
if "broken" in chosen.properties.read_text():
    raise ValueError("these settings do not work")
tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
tables.execute_sql(
    "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '10')"
)
tables.execute_sql("CREATE TABLE nothing (n BIGINT) WITH ('connector' = 'blackhole')")
for key, value in gate.wait(chosen.gate).configuration().items():
    tables.get_config().set(key, value)
tables.execute_sql("INSERT INTO nothing SELECT n FROM numbers")
"""


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[LocalSettings, dict[str, str]]]:
    """A cluster of one TaskManager on a free port."""
    environ = {
        **os.environ,
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",
        "TUNEMESH_HOME": str(tmp_path_factory.mktemp("cluster")),
        "TUNEMESH_FLINK_PORT": str(free_port()),
        "TUNEMESH_TASKMANAGERS": "1",
    }
    settings = LocalSettings.from_environment(environ)
    try:
        platform.up(settings, ["flink"], environ=environ)
        yield settings, environ
    finally:
        platform.down(settings)


@pytest.fixture
def case(cluster: tuple[LocalSettings, dict[str, str]], tmp_path: Path) -> Iterator[TargetCase]:
    """An application per test; its job is cancelled at the end."""
    settings, environ = cluster
    files = {}
    for mark in ("one", "other"):
        folder = tmp_path / mark
        for package in ("jobs", "schemas", "connectors"):
            shutil.copytree(
                PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        (folder / "main.py").write_text(f"{MAIN}# {mark}\n")
        files[package_folder(folder)] = folder
    one, other = (Configuration(release, {}, 1) for release in files)
    target = LocalCluster(tmp_path.name, settings, environ)
    yield TargetCase(target, one, replace(other, parallelism=2), files, seconds=240)
    for job in target._rest.running_jobs():
        target._rest.cancel(job.id)


class TestContract(TargetContract):
    """The contract of targets."""


def workers(settings: LocalSettings) -> dict[str, str]:
    """Return the first folder on the path of each TaskManager."""
    folders = {}
    for name in process.list_recorded(settings):
        running = process.find_process(process.read_record(settings, name))
        if name.startswith(TASKMANAGER) and running is not None:
            path = psutil.Process(running.pid).environ()["PYTHONPATH"]
            folders[name] = Path(path.split(os.pathsep)[0]).name
    return folders


def test_a_version_has_its_own_taskmanagers_and_up_restarts_them(
    case: TargetCase, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """The checkout's TaskManagers end; a crashed one is restarted with the release's code."""
    settings, environ = cluster
    case.start()
    ((name, code),) = workers(settings).items()
    assert code == case.one.release
    process.kill(settings, name)
    platform.up(settings, ["flink"], environ=environ)
    assert workers(settings) == {name: case.one.release}
    # A job that another client has cancelled after the order counts as stopped.
    rest: FlinkRest = case.target._rest  # type: ignore[attr-defined]
    case.target.stop(force=True)
    (job,) = rest.running_jobs()
    rest.cancel(job.id)
    case.wait_settled(Status.READY)


def test_an_enrichment_that_is_added_is_not_configured_as_restored(
    case: TargetCase, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """In process mode it would release events before it has read their users and items."""
    file = cluster[0].home / "applications" / f"{case.target.name}.json"
    without, added = (
        replace(case.one, properties={"tunemesh.application": {"pipelines": pipelines}})
        for pipelines in ("recommendations", "enrichment,recommendations")
    )
    replace(case, one=without).start()
    for configuration, restored in ((added, "false"), (replace(added, parallelism=2), "true")):
        case.target.update(case.target.describe(), configuration, None, LATEST)
        case.wait_settled(Status.RUNNING)
        assert read_groups(file)["tunemesh.enrichment"]["restored"] == restored


def test_a_client_that_fails_changes_nothing(
    case: TargetCase, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """The same job runs on; the reason is the client's."""
    settings, _ = cluster
    case.start()
    before, job = workers(settings), case.target._rest.running_jobs()  # type: ignore[attr-defined]
    broken = replace(case.one, properties={"some.group": {"broken": "yes"}})
    seen = case.target.describe()
    case.target.update(seen, broken, None, LATEST)
    case.wait_settled(Status.RUNNING)
    seen = case.target.describe()
    assert (seen.configuration, seen.rolled_back_from) == (case.one, 2)
    assert case.target.describe_failure(2) == "ValueError: these settings do not work"
    assert workers(settings) == before
    assert case.target._rest.running_jobs() == job  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="these settings do not work"):
        case.target.check(broken, case.files[case.one.release])


def test_a_failure_in_the_pause_leaves_no_unrecorded_job(
    case: TargetCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that fails, an answer that is lost, a rollback that cannot be prepared, a client that
    is killed: the job that runs is the one recorded."""
    target, one, other = case.target, case.one, case.other
    rest: FlinkRest = target._rest  # type: ignore[attr-defined]
    submit = PreparedSubmission.submit

    def full(*arguments: object, **named: object) -> str:
        raise FlinkError("the disk is full")

    def lost(submission: PreparedSubmission, savepoint: str | None, job: str) -> str:
        submit(submission, savepoint, job)
        raise FlinkError("no answer")

    def dying(submission: PreparedSubmission, savepoint: str | None, job: str) -> str:
        submission._process.kill()
        submission._process.wait(60)
        return submit(submission, savepoint, job)

    def upgrade(configuration: Configuration, status: Status) -> Configuration:
        target.update(target.describe(), configuration, case.files[configuration.release], LATEST)
        case.wait_settled(status)
        return target.describe().configuration

    case.start()
    before = rest.running_jobs()
    with monkeypatch.context() as broken:
        broken.setattr(FlinkRest, "stop_with_savepoint", full)
        assert upgrade(other, Status.RUNNING) == one
    assert rest.running_jobs() == before
    assert target.describe_failure(2) == "the disk is full"

    with monkeypatch.context() as broken:
        broken.setattr(PreparedSubmission, "submit", lost)
        assert upgrade(other, Status.RUNNING) == other
    (after,) = rest.running_jobs()
    assert (after,) != before

    # The former version cannot be prepared: the new one is not mistaken for it.
    folder = target.find_files(one.release)
    assert folder is not None
    main = (folder / "main.py").read_text()
    try:
        (folder / "main.py").write_text("raise ValueError('the registry is gone')")
        target.roll_back(target.describe())
        case.wait_settled(Status.RUNNING)
    finally:
        (folder / "main.py").write_text(main)
    seen = target.describe()
    assert seen.configuration == other
    assert target.describe_failure(seen.version) == "ValueError: the registry is gone"
    assert rest.running_jobs() == (after,)

    with monkeypatch.context() as broken:
        broken.setattr(PreparedSubmission, "submit", dying)
        upgrade(one, Status.READY)
    assert rest.running_jobs() == ()


def test_an_interrupted_start_is_carried_out_by_the_next_client(
    case: TargetCase, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """An order is only recorded; any client carries it out."""
    settings, environ = cluster
    case.create()
    case.target.start(NOTHING)
    again = LocalCluster(case.target.name, settings, environ)
    assert again.describe().status is Status.STARTING
    replace(case, target=again).wait_settled(Status.RUNNING)


def test_a_fresh_cluster_has_no_application(
    case: TargetCase, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """Its savepoints are deleted, and with them the applications."""
    settings, environ = cluster
    case.create()
    platform.up(settings, ["flink"], environ=environ, fresh=True)
    with pytest.raises(NoApplicationError):
        case.target.describe()
