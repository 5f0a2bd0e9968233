"""`tunemesh submit` refuses an application that cannot run beside the jobs of the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from cli.submit import SubmitError, require_room
from deploy.local.settings import LocalSettings
from deploy.upgrades import local_deployment
from deploy.upgrades.local_deployment import LocalDeployment, PendingChange
from deploy.upgrades.target import Configuration, Status
from tests.support.clock import StoppedTime
from tests.support.servers import Received, http_server

NAME = "tunemesh enrichment+analytics"


class JobManager:
    """A cluster of two slots, with a job that has one of them."""

    jobs = (("j", NAME, "RUNNING"), ("e", "tunemesh recommendations", "FINISHED"))
    free = 1

    def __call__(self, request: Received) -> tuple[int, bytes]:
        if request.path == "/overview":
            return 200, json.dumps({"slots-total": 2, "slots-available": self.free}).encode()
        assert request.path == "/jobs/overview"
        jobs = [
            {"jid": job, "name": name, "state": state, "start-time": 0}
            for job, name, state in self.jobs
        ]
        return 200, json.dumps({"jobs": jobs}).encode()


@pytest.fixture
def job_manager() -> JobManager:
    return JobManager()


@pytest.fixture
def settings(tmp_path: Path, job_manager: JobManager) -> Iterator[LocalSettings]:
    with http_server(job_manager) as url:
        port = url.rpartition(":")[2]
        environ = {"TUNEMESH_HOME": str(tmp_path), "TUNEMESH_FLINK_PORT": port}
        yield LocalSettings.from_environment(environ)


def require(settings: LocalSettings, *pipelines: str, parallelism: int | None = 1) -> None:
    require_room(settings, pipelines, parallelism, StoppedTime(0.0).clock)


@pytest.mark.parametrize(
    ("job", "pending", "is_refused"),
    [
        # Other pipelines run beside a job, in a slot that is free.
        (None, None, False),
        # An upgrade would find another job, and refuse.
        ("j", None, True),
        # Its job has ended, or Flink was started anew.
        ("gone", None, False),
        # The next `tunemesh deploy` continues it.
        ("gone", PendingChange("start", "new"), True),
    ],
    ids=["no application", "running", "stopped", "unfinished change"],
)
def test_an_application_of_deploy_has_the_cluster(
    settings: LocalSettings, job: str | None, pending: PendingChange | None, is_refused: bool
) -> None:
    """While it runs or is changed."""
    if job is not None:
        configuration = Configuration("tunemesh-stream-0.1.0", {}, 2)
        deployment = LocalDeployment("mine", {1: configuration}, 1, Status.RUNNING, job)
        deployment.pending = pending
        file = local_deployment.deployment_file(settings, "mine")
        file.parent.mkdir(parents=True)
        local_deployment.write(file, deployment)
    refusal = pytest.raises(SubmitError, match="the application mine of `tunemesh deploy` has this")
    with refusal if is_refused else nullcontext():
        require(settings, "recommendations")


def test_a_pipeline_runs_once(settings: LocalSettings) -> None:
    """Two jobs would share its consumer group, and write everything twice."""
    with pytest.raises(SubmitError, match=r"the job j \(.*\) already runs enrichment\. Stop"):
        require(settings, "enrichment", "recommendations")


def test_slots_are_needed(settings: LocalSettings, job_manager: JobManager) -> None:
    """Without them the job would wait, and restart indefinitely."""
    with pytest.raises(SubmitError, match=r"2 task slots are needed, 1 are free.*--parallelism"):
        require(settings, "recommendations", parallelism=None)
    job_manager.free = 2
    require(settings, "recommendations", parallelism=None)
