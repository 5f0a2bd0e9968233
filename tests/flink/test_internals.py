"""Flink's internals are as connectors/flink/internals uses them: a test for each, on one run.

A test that fails says that this Flink has changed there: the module has to follow, or its users
lose what it gave them (docs/concepts/flink-workarounds.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from connectors.clock import now_ms
from connectors.flink.internals.version import check_version
from deploy.local import flink_cluster, jars
from deploy.local.flink import FlinkError, FlinkRest
from deploy.local.kafka import TopicSpec, create_topics
from jobs.metrics import function_and_name
from tests.flink.internals_job import BLOCK, COUNT, FAIL, Request, facts
from tests.flink.mesh import START_SECONDS, Mesh, application_environment
from tests.support import ports
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

TOPIC = "flink-internals"
JOB = "c0ffee" + "0" * 26
ENDS = {0: 3, 1: 2}
"""Records before the failure, by partition."""


@dataclass(frozen=True, slots=True)
class Run:
    """The finished run: what the job noted, what its REST API said."""

    facts: list[dict[str, Any]]
    jobs: list[str]
    gauge: float
    checkpoints: dict[str, Any]

    def fact(self, name: str) -> list[Any]:
        """Every fact of a name, in its order."""
        return [fact[name] for fact in self.facts if name in fact]


@pytest.fixture(scope="module")
def run(
    mesh: Mesh, environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Records are read, a task fails and is restored, another record blocks it, it is cancelled."""
    folder = tmp_path_factory.mktemp("internals")
    create_topics(mesh.settings.kafka.address, [TopicSpec(TOPIC, len(ENDS), {})])
    publish(mesh, {partition: [COUNT] * end for partition, end in ENDS.items()})
    request = Request(
        str(folder),
        mesh.settings.kafka.address,
        TOPIC,
        ports.free_port(),
        JOB,
        [str(jar) for jar in jars.paths("flink", mesh.settings.jar_cache)],
    )
    plugins = flink_cluster.prepare_plugins(folder / "plugins", mesh.settings.jar_cache)
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.flink.internals_job", json.dumps(request._asdict())],
            env={**application_environment(folder, environ), "FLINK_PLUGINS_DIR": str(plugins)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    rest = FlinkRest(f"http://127.0.0.1:{request.rest_port}")

    def wait(condition: Any, what: str) -> None:
        def reached() -> Any:
            assert process.poll() is None, f"the job ended:\n{(folder / 'output.txt').read_text()}"
            return condition()

        wait_until(reached, lambda: f"{what}; noted: {facts(folder)}", START_SECONDS)

    try:
        wait(lambda: gauge(rest) == sum(ENDS.values()), "the gauge does not show the records")
        shown, counted_ms = gauge(rest), now_ms()
        (job,) = rest.running_jobs()
        checkpoints = rest.call("GET", f"/jobs/{job.id}/checkpoints/config")
        wait(lambda: checkpoint_ms(rest) > counted_ms, "there is no checkpoint")
        publish(mesh, {0: [FAIL]})
        wait(lambda: sum("restored" in fact for fact in facts(folder)) == 2, "no restart")
        publish(mesh, {1: [BLOCK]})
        wait((folder / "blocked").exists, "the last record was not read")
        known = [job.id for job in rest.jobs()]
        rest.call("PATCH", f"/jobs/{known[0]}?mode=cancel")
        wait_until(
            lambda: any("cancelled" in fact for fact in facts(folder)),
            lambda: "the function still blocks",
        )
        yield Run(facts(folder), known, shown, checkpoints)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def publish(mesh: Mesh, commands: dict[int, list[bytes]]) -> None:
    for partition, values in commands.items():
        for value in values:
            mesh.publish(TOPIC, value, partition=partition)


def gauge(rest: FlinkRest) -> float:
    """The probe's count among Flink's metrics; 0 before it is there."""
    with contextlib.suppress(FlinkError):  # it does not answer before it has started
        for job in rest.running_jobs():
            for vertex in rest.vertices(job.id):
                for name in rest.vertex_metric_names(job.id, vertex.id):
                    if function_and_name(name) == ("probe", "records"):
                        return rest.vertex_metrics(job.id, vertex.id, [name], "max").get(name, 0)
    return 0


def checkpoint_ms(rest: FlinkRest) -> int:
    """When the last complete checkpoint began."""
    (job,) = rest.running_jobs()
    latest = rest.call("GET", f"/jobs/{job.id}/checkpoints")["latest"]["completed"]
    return latest["trigger_timestamp"] if latest else 0


def test_this_flink_is_a_supported_one() -> None:
    """Another one is added to SUPPORTED when the tests of this file pass with it."""
    check_version()


def test_a_function_knows_its_java_task(run: Run) -> None:
    """java_task: the private field of its thread, at each opening."""
    assert run.fact("task") == ["org.apache.flink.runtime.taskmanager.Task"] * 2


def test_a_function_sees_where_its_sources_resume(run: Run) -> None:
    """restored: nothing at the first start, then the checkpoint's offsets of each partition."""
    first, second = run.fact("restored")
    assert first == []
    assert sorted(second) == [[TOPIC, partition, end] for partition, end in ENDS.items()]


def test_code_can_make_checkpoints_unaligned(run: Run) -> None:
    """By the key that Managed Flink allows, and from the first barrier on."""
    assert run.checkpoints["unaligned_checkpoints"] is True
    assert run.checkpoints["aligned_checkpoint_timeout"] == 0


def test_a_join_that_could_not_be_made_a_left_join_stops_the_submission(run: Run) -> None:
    """left_join: the one join is found and changed; with another missing nothing is submitted.

    That a changed join keeps events is tested with the enrichment itself (test_enrichment.py).
    """
    (error,) = run.fact("joins")
    assert error.startswith("1 joins with the newest version were found in the plan, 2 expected")
    assert len(run.jobs) == 1


def test_gauges_of_a_python_thread_are_flinks_metrics(run: Run) -> None:
    """gauges: the metric group of a task, and a gauge that can be set to a number."""
    assert run.gauge == sum(ENDS.values())


def test_a_function_notices_that_its_task_is_cancelled(run: Run) -> None:
    """java_task: Flink interrupts the thread, which Python code does not notice."""
    assert run.fact("cancelled") == [True]


def test_a_job_has_the_id_that_it_was_submitted_with(run: Run) -> None:
    """submission: an upgrade knows the job before it runs."""
    assert run.jobs == [JOB]


def test_the_minicluster_has_the_file_systems_of_its_plugins(run: Run) -> None:
    """file_systems: S3, which the bootstrap reads and writes."""
    assert run.fact("s3") == ["s3"]


def test_a_compiled_plan_cannot_be_executed(run: Run) -> None:
    """When it can, jobs/submission/plan.py may do without EXECUTE PLAN."""
    assert len(run.fact("plan")) == 1
