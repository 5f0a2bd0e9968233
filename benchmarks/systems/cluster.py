"""A standalone Flink cluster of the benchmark's own, started for one run and stopped after it.

The product's own platform part (``deploy.local``): a JobManager and two TaskManagers with a slot
each, their configuration and their memory as `tunemesh up flink` has them. All Flink systems run
on it, and each finds it new: Java's compiler cold, nothing left by the run before.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.parts import bench_settings
from benchmarks.processes import Started
from benchmarks.systems import PARALLELISM, Task
from connectors.flink import java
from deploy.local import flink, flink_cluster, platform, process
from deploy.local.settings import LocalSettings

Submit = Callable[[], str]
"""Submits the system's job to the cluster and returns its id."""

_SUBMIT_SECONDS = 180
_RUNNING_SECONDS = 300
_CLIENT_LOG = "flink-client"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster in the bench folder ``work``; what is started is in ``work/run``."""

    work: Path

    @property
    def settings(self) -> LocalSettings:
        """The platform's settings for it: two TaskManagers of one slot, whatever the caller's."""
        return replace(bench_settings(self.work), taskmanagers=PARALLELISM, task_slots=1)

    def run(self, submit: Submit) -> Started:
        """Start the cluster, submit a job and return when all of it runs; what stops it is in it.

        Raises BenchmarkError or FlinkError with the end of a log when something does not start.
        """
        settings = self.settings
        try:
            platform.up(settings, [flink_cluster.NAME], environ=os.environ, fresh=True)
            job = submit()
            rest = flink.FlinkRest.of(settings)
            rest.wait_running(job, _RUNNING_SECONDS)
        except BaseException:
            self.stop()
            raise

        def check() -> None:
            for name in _servers(settings):
                if not process.is_running(settings, name):
                    tail = "\n".join(process.tail(settings.log(name), 20))
                    raise BenchmarkError(f"{name} has died. The end of its log:\n{tail}")
            state = rest.job_status(job)
            if state != "RUNNING":
                raise BenchmarkError(f"the job is {state}:\n{rest.job_exception(job)[:4000]}")

        return Started(
            [],
            settings.log(_CLIENT_LOG),
            extra_pids=[
                record.pid
                for name in _servers(settings)
                if (record := process.read_record(settings, name)) is not None
            ],
            check_more=check,
            stop_more=self.stop,
        )

    def stop(self) -> None:
        """Stop every process of the cluster; its checkpoints go with the next start."""
        platform.down(self.settings, [flink_cluster.NAME])

    def submit_python(
        self,
        script: Path,
        arguments: Sequence[str],
        configuration: Mapping[str, str],
    ) -> str:
        """Submit a Python job as the product's own are (`flink run --python`); returns its id."""
        return flink.run_job(self.settings, script, arguments, configuration=configuration)

    def submit_java(
        self,
        jar: Path,
        main_class: str,
        library: Sequence[Path],
        arguments: Sequence[str],
        configuration: Mapping[str, str],
    ) -> str:
        """Submit a jar (`flink run --class`), the ``library`` on the job's class path; its id."""
        settings, found = self.settings, java.find(os.environ)
        done = subprocess.run(
            [
                *(str(found.executable), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"),
                *flink_cluster.java_options(),
                "-Dlog4j.configurationFile="
                + str(flink_cluster.conf_folder(settings) / "log4j-client.properties"),
                *("-classpath", flink_cluster.class_path()),
                *("org.apache.flink.client.cli.CliFrontend", "run", "--detached"),
                *(f"-D{key}={value}" for key, value in configuration.items()),
                *(word for path in library for word in ("--classpath", path.as_uri())),
                *("--class", main_class, str(jar), *arguments),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, **flink_cluster.environment(settings, found, os.environ)},
            timeout=_SUBMIT_SECONDS,
            check=False,
        )
        settings.log(_CLIENT_LOG).write_text(done.stdout + done.stderr)
        submitted = re.findall(r"Job has been submitted with JobID ([0-9a-f]{32})", done.stdout)
        if done.returncode != 0 or not submitted:
            text = flink.extract_error(done.stdout + done.stderr)
            raise BenchmarkError(f"{main_class} was not submitted:\n{text}")
        return str(submitted[-1])


def job_configuration(backend: str, task: Task) -> dict[str, str]:
    """What a job is told beside the cluster's configuration; ``backend``: hashmap or rocksdb.

    From the cluster: parallelism, memory, incremental checkpoints every 10 s. A failure ends the
    run instead of being restarted from.
    """
    return {
        "state.backend.type": backend,
        "pipeline.object-reuse": "true",
        "restart-strategy.type": "none",
        "execution.checkpointing.dir": (task.folder / "checkpoints").as_uri(),
    }


def _servers(settings: LocalSettings) -> tuple[str, ...]:
    return tuple(n for n in process.list_recorded(settings) if n.startswith("flink-"))
