"""The Flink cluster's configuration, and its client's errors."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deploy.local import flink, flink_cluster
from deploy.local.flink import FlinkError, FlinkRest
from deploy.local.flink_cluster import TaskManagerMemory
from deploy.local.flink_workers import Workers
from deploy.local.settings import LocalSettings
from tests.support.servers import http_server


def configure(**environ: str) -> dict[str, Any]:
    return dict(flink_cluster.configuration(LocalSettings.from_environment(environ), 12345))


def test_everything_listens_on_loopback() -> None:
    """Every address in the configuration is 127.0.0.1: the cluster has no login."""
    addresses = {
        key: value
        for key, value in configure().items()
        if key.endswith((".address", ".host", "bind-host", "bind-address"))
    }
    assert set(addresses) >= {"jobmanager.bind-host", "taskmanager.bind-host", "rest.bind-address"}
    assert set(addresses.values()) == {"127.0.0.1"}


def test_web_pages_can_neither_submit_nor_read() -> None:
    """By default Flink accepts jars from pages and lets every origin read."""
    configuration = configure()
    assert configuration["web.submit.enable"] is False
    url = LocalSettings.from_environment({}).flink.url
    assert configuration["web.access-control-allow-origin"] == url


def test_metrics_for_prometheus_are_off_by_default() -> None:
    """If set, with these ports, and a reporter of the package."""
    assert not any(key.startswith("metrics.reporter") for key in configure())
    configuration = configure(TUNEMESH_PROMETHEUS_PORTS="29250-29259")
    name = configuration["metrics.reporters"]
    assert configuration[f"metrics.reporter.{name}.port"] == "29250-29259"
    factory = str(configuration[f"metrics.reporter.{name}.factory.class"])
    (jar,) = (flink_cluster.flink_home() / "plugins" / "metrics-prometheus").glob("*.jar")
    with zipfile.ZipFile(jar) as classes:
        assert factory.replace(".", "/") + ".class" in classes.namelist()


def test_checkpoints_are_as_on_the_service() -> None:
    """RocksDB, incremental, kept when the job ends, in the platform's data folder."""
    assert configure(TUNEMESH_HOME="/somewhere").items() >= {
        ("state.backend.type", "rocksdb"),
        ("execution.checkpointing.incremental", True),
        ("execution.checkpointing.dir", "file:///somewhere/data/flink/checkpoints"),
        ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
    }


def test_the_default_parallelism_is_the_number_of_slots() -> None:
    """A job without a parallelism uses all task slots."""
    configuration = configure(TUNEMESH_TASKMANAGERS="3", TUNEMESH_TASK_SLOTS="2")
    assert configuration["parallelism.default"] == 6
    assert configuration["taskmanager.numberOfTaskSlots"] == 2


def test_java_has_the_memory_that_flink_is_configured_with() -> None:
    """Heap and direct memory are the sums that Flink's own scripts would make; 1.7 GiB in all."""
    memory = TaskManagerMemory()
    heap = memory.framework_heap + memory.task_heap
    direct = memory.framework_off_heap + memory.task_off_heap + memory.network
    rest = memory.managed + memory.metaspace + memory.overhead

    assert f"-Xmx{heap}m" in memory.java_options()
    assert f"-XX:MaxDirectMemorySize={direct}m" in memory.java_options()
    assert 1.6 <= (heap + direct + rest) / 2**10 <= 1.75


def test_the_class_path_has_flink_last_and_the_python_runner() -> None:
    """flink-dist last, as the scripts have it; flink-python once, outside of any job."""
    names = [entry.rpartition("/")[2] for entry in flink_cluster.class_path().split(":")]

    assert names[-1].startswith("flink-dist-")
    assert sum(name.startswith("flink-python-") for name in names) == 1


FAILED_CLIENT = """\
2026-01-01 WARN  o.a.f.something [] - noise
Traceback (most recent call last):
  File "main.py", line 14, in <module>
    environment.execute_sql("SELECT nonsense")
py4j.protocol.Py4JJavaError: An error occurred while calling o8.executeSql.
: org.apache.flink.table.api.ValidationException: SQL validation failed.
\tat org.apache.flink.Somewhere.run(Somewhere.java:1)
Caused by: org.apache.calcite.CalciteException: Column 'nonsense' not found
\tat org.apache.calcite.Somewhere.run(Somewhere.java:2)
2026-01-01 ERROR o.a.f.c.c.CliFrontend [] - Fatal error while running command line interface.
org.apache.flink.client.program.ProgramAbortException: Python process exits with code: 1
Caused by: java.lang.RuntimeException: Python process exits with code: 1
\tat org.apache.flink.client.python.PythonDriver.main(PythonDriver.java:130)
"""


@pytest.mark.parametrize("end", flink.PYTHON_ENDED)
def test_a_failed_submission_shows_the_traceback_and_its_causes(end: str) -> None:
    """Not the stack of the client, which is the same for every failure."""
    shown = flink.extract_error(FAILED_CLIENT.replace(flink.PYTHON_ENDED[0], end))

    assert 'execute_sql("SELECT nonsense")' in shown
    assert "Column 'nonsense' not found" in shown
    assert end not in shown
    assert "\tat " not in shown
    assert "noise" not in shown


def test_a_client_without_a_traceback_shows_its_last_lines() -> None:
    """Then the last lines are returned."""
    shown = flink.extract_error("\n".join(f"line {n}" for n in range(100)), lines=2)
    assert [line.strip() for line in shown.splitlines()] == ["line 98", "line 99"]


def test_a_refusal_has_flinks_message_without_the_stack() -> None:
    """The call, the status and the reason in one line."""
    reason = "org.apache.flink.runtime.rest.NotFoundException: Job 00 not found"
    body = json.dumps({"errors": [reason + "\n\tat org.apache.Somewhere"]}).encode()
    with http_server(lambda request: (404, body)) as url, pytest.raises(FlinkError) as caught:
        FlinkRest(url).job_status("00")
    assert "GET /jobs/00/status: 404" in str(caught.value)
    assert "Job 00 not found" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cluster_that_is_not_up_is_said_to_be() -> None:
    """No connection: where it was looked for, and how to see what is up."""
    with pytest.raises(FlinkError, match=r"127\.0\.0\.1:1 does not answer .*tunemesh status"):
        FlinkRest("http://127.0.0.1:1").jobs()


def test_checkpoints_of_the_last_jobs_are_kept(tmp_path: Path) -> None:
    """And of every job that has not ended, however old they are."""
    jobs = [
        {"jid": f"job-{number}", "name": "tunemesh", "state": state, "start-time": 0}
        for number, state in ((0, "RESTARTING"), (1, "CANCELED"), (9, "RUNNING"))
    ]
    with http_server(lambda _: (200, json.dumps({"jobs": jobs}).encode())) as url:
        settings = LocalSettings.from_environment(
            {"TUNEMESH_HOME": str(tmp_path), "TUNEMESH_FLINK_PORT": url.rpartition(":")[2]}
        )
        folder = settings.data("flink") / "checkpoints"
        for number in range(10):
            checkpoint = folder / f"job-{number}" / "chk-7"
            checkpoint.mkdir(parents=True)
            (checkpoint / "_metadata").touch()
            os.utime(checkpoint.parent, (number, number))
        flink.prune_checkpoints(settings)
    assert sorted(path.name for path in folder.iterdir()) == [
        "job-0", "job-4", "job-5", "job-6", "job-7", "job-8", "job-9"
    ]  # fmt: skip


def test_a_taskmanager_finds_no_files_of_the_one_before(tmp_path: Path, java_home: Path) -> None:
    """One that was killed has left its temporary files; those of the others are not touched."""
    settings = LocalSettings.from_environment({"TUNEMESH_HOME": str(tmp_path)})
    temporary = flink_cluster.temporary_folder(settings)
    for name in ("tm_flink-taskmanager-1-18ec", "tm_flink-taskmanager-12-18ec"):
        (temporary / name / "blobs").mkdir(parents=True)
    workers = Workers(("flink-taskmanager-1",), ())
    (server,) = flink_cluster.taskmanagers(settings, {"JAVA_HOME": str(java_home)}, workers)
    server.prepare()
    assert [path.name for path in temporary.iterdir()] == ["tm_flink-taskmanager-12-18ec"]
