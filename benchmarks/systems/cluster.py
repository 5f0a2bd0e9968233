"""A standalone Flink cluster of the benchmark, started for each run and stopped after it.

It is the service ``flink`` of the platform: a JobManager and two TaskManagers with a slot each,
with the configuration and memory of `tunemesh up flink`. All Flink systems run on it, each run on a
new cluster.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.processes import Processes
from benchmarks.services import benchmark_settings
from benchmarks.systems import PARALLELISM, Task
from deploy.local import flink, flink_cluster, platform, process
from deploy.local.settings import LocalSettings

_RUNNING_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster, whose files are in the benchmark's folder ``work``."""

    work: Path

    @property
    def settings(self) -> LocalSettings:
        """The platform's settings with two TaskManagers of one slot."""
        return replace(benchmark_settings(self.work), taskmanagers=PARALLELISM, task_slots=1)

    def run(
        self,
        program: Path,
        arguments: Sequence[str],
        configuration: Mapping[str, str],
        **java: Any,
    ) -> Processes:
        """Start the cluster and submit a job as the product's are; returns when the job runs.

        ``program``: a Python script or a jar, then ``java`` has its ``main_class`` and the
        ``libraries`` on its class path. Raises TunemeshError with the end of a log if a server or
        the job does not start.
        """
        settings = self.settings
        try:
            platform.up(settings, [flink_cluster.NAME], environ=os.environ, fresh=True)
            job = flink.run_job(settings, program, arguments, configuration=configuration, **java)
            rest = flink.FlinkRest.of(settings)
            rest.wait_running(job, _RUNNING_SECONDS)
        except BaseException:
            self.stop()
            raise

        servers = process.list_running(settings, "flink-")

        def check() -> None:
            for name in servers:
                if not process.is_running(settings, name):
                    lines = "\n".join(process.tail(settings.log(name), 20))
                    raise BenchmarkError(f"{name} has died. The end of its log:\n{lines}")
            state = rest.job_status(job)
            if state != "RUNNING":
                raise BenchmarkError(f"the job is {state}:\n{rest.job_exception(job)[:4000]}")

        return Processes(
            [],
            settings.log(flink.CLIENT_LOG),
            extra_pids=[
                record.pid
                for name in servers
                if (record := process.read_record(settings, name)) is not None
            ],
            check_more=check,
            stop_more=self.stop,
        )

    def stop(self) -> None:
        """Stop the cluster; the next start deletes its checkpoints."""
        platform.down(self.settings, [flink_cluster.NAME])


def job_configuration(backend: str, task: Task) -> dict[str, str]:
    """Return the configuration of a job; ``backend``: hashmap or rocksdb.

    The cluster's configuration has parallelism, memory and incremental checkpoints every 10 s. A
    failure ends the run, without a restart.
    """
    return {
        "state.backend.type": backend,
        "pipeline.object-reuse": "true",
        "restart-strategy.type": "none",
        "execution.checkpointing.dir": (task.folder / "checkpoints").as_uri(),
    }
