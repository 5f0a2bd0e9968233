"""The laptop's cluster keeps what an upgrade relies on: the contract of targets, on a real cluster.

The releases are small: a job of one SQL statement, submitted through the same gate.
"""

from __future__ import annotations

import os
import shutil
import socket
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
from tests.support.upgrade_contract import Place, TargetContract

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
    """A cluster of one TaskManager on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environ = {
        **os.environ,
        "TUNEMESH_HOME": str(tmp_path_factory.mktemp("cluster")),
        "TUNEMESH_FLINK_PORT": str(port),
        "TUNEMESH_TASKMANAGERS": "1",
    }
    settings = LocalSettings.from_environment(environ)
    try:
        platform.up(settings, ["flink"], environ=environ)
        yield settings, environ
    finally:
        platform.down(settings)


@pytest.fixture
def place(cluster: tuple[LocalSettings, dict[str, str]], tmp_path: Path) -> Iterator[Place]:
    """An application of its own; its job is gone at the end."""
    settings, environ = cluster
    files = {}
    for release in ("release-one", "release-other"):
        files[release] = tmp_path / release
        for package in ("jobs", "schemas", "connectors"):
            shutil.copytree(
                PROJECT / package,
                files[release] / package,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        (files[release] / "main.py").write_text(MAIN)
    one, other = (Configuration(release, {}, 1) for release in files)
    target = LocalCluster(tmp_path.name, settings, environ)
    yield Place(target, one, replace(other, parallelism=2), files, seconds=240)
    for job in target._rest.running_jobs():
        target._rest.cancel(job.id)


class TestContract(TargetContract):
    """What the state machine relies on."""


def workers(settings: LocalSettings) -> dict[str, str]:
    """The first folder on the path of each TaskManager."""
    found = {}
    for name in process.all_recorded(settings):
        running = process.running(process.recorded(settings, name))
        if name.startswith(TASKMANAGER) and running is not None:
            path = psutil.Process(running.pid).environ()["PYTHONPATH"]
            found[name] = Path(path.split(os.pathsep)[0]).name
    return found


def test_a_version_has_its_own_taskmanagers_and_up_brings_back_the_right_ones(
    place: Place, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """The checkout's TaskManagers go; a dead one comes back with the release's code."""
    settings, environ = cluster
    place.running()
    ((name, code),) = workers(settings).items()
    assert code == "release-one"
    process.kill(settings, name)
    platform.up(settings, ["flink"], environ=environ)
    assert workers(settings) == {name: "release-one"}
    # A job that somebody else has ended after the order was noted is a stopped one.
    rest: FlinkRest = place.target._rest  # type: ignore[attr-defined]
    place.target.stop(force=True)
    (job,) = rest.running_jobs()
    rest.cancel(job.id)
    place.settled(Status.READY)


def test_an_enrichment_that_is_added_is_not_announced_as_restored(
    place: Place, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """In process mode it would pass events before it has read their users and items."""
    file = cluster[0].home / "applications" / f"{place.target.name}.json"
    without, added = (
        replace(place.one, properties={"tunemesh.application": {"pipelines": pipelines}})
        for pipelines in ("recommendations", "enrichment,recommendations")
    )
    replace(place, one=without).running()
    for configuration, restored in ((added, "false"), (replace(added, parallelism=2), "true")):
        place.target.update(place.target.describe(), configuration, None, LATEST)
        place.settled(Status.RUNNING)
        assert read_groups(file)["tunemesh.enrichment"]["restored"] == restored


def test_a_client_that_fails_touches_nothing(
    place: Place, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """The job that runs is the same one; the reason is the client's."""
    settings, _ = cluster
    place.running()
    before, job = workers(settings), place.target._rest.running_jobs()  # type: ignore[attr-defined]
    broken = replace(place.one, properties={"some.group": {"broken": "yes"}})
    seen = place.target.describe()
    place.target.update(seen, broken, None, LATEST)
    place.settled(Status.RUNNING)
    seen = place.target.describe()
    assert (seen.configuration, seen.rolled_back_from) == (place.one, 2)
    assert place.target.describe_failure(2) == "ValueError: these settings do not work"
    assert workers(settings) == before
    assert place.target._rest.running_jobs() == job  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="these settings do not work"):
        place.target.check(broken, place.files["release-one"])


def test_what_fails_in_the_pause_leaves_no_job_that_nobody_knows(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that fails, an answer that is lost, a way back that cannot be prepared, a client that
    dies: what runs is asked, and known as what it is."""
    target, one, other = place.target, place.one, place.other
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

    def upgraded(configuration: Configuration, status: Status) -> Configuration:
        target.update(target.describe(), configuration, place.files[configuration.release], LATEST)
        place.settled(status)
        return target.describe().configuration

    place.running()
    before = rest.running_jobs()
    with monkeypatch.context() as broken:
        broken.setattr(FlinkRest, "stop_with_savepoint", full)
        assert upgraded(other, Status.RUNNING) == one
    assert rest.running_jobs() == before
    assert target.describe_failure(2) == "the disk is full"

    with monkeypatch.context() as broken:
        broken.setattr(PreparedSubmission, "submit", lost)
        assert upgraded(other, Status.RUNNING) == other
    (after,) = rest.running_jobs()
    assert (after,) != before

    # The former version cannot be prepared: the new one is not taken for it.
    folder = target.find_files(one.release)
    assert folder is not None
    try:
        (folder / "main.py").write_text("raise ValueError('the registry is gone')")
        target.roll_back(target.describe())
        place.settled(Status.RUNNING)
    finally:
        (folder / "main.py").write_text(MAIN)
    seen = target.describe()
    assert seen.configuration == other
    assert target.describe_failure(seen.version) == "ValueError: the registry is gone"
    assert rest.running_jobs() == (after,)

    with monkeypatch.context() as broken:
        broken.setattr(PreparedSubmission, "submit", dying)
        upgraded(one, Status.READY)
    assert rest.running_jobs() == ()


def test_a_start_that_was_interrupted_is_carried_out_by_the_next_client(
    place: Place, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """An order is only noted; whoever comes carries it out."""
    settings, environ = cluster
    place.created()
    place.target.start(NOTHING)
    again = LocalCluster(place.target.name, settings, environ)
    assert again.describe().status is Status.STARTING
    replace(place, target=again).settled(Status.RUNNING)


def test_a_fresh_cluster_knows_no_application(
    place: Place, cluster: tuple[LocalSettings, dict[str, str]]
) -> None:
    """Its savepoints are gone, so what was submitted is, too."""
    settings, environ = cluster
    place.created()
    platform.up(settings, ["flink"], environ=environ, fresh=True)
    with pytest.raises(NoApplicationError):
        place.target.describe()
