"""`tunemesh status`: the services of the local platform, and the progress of running jobs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import click
from rich.console import RenderableType
from rich.text import Text

from cli import terminal
from deploy.local import flink_cluster, platform
from deploy.local.flink import FlinkError
from deploy.local.job_progress import FlowProgress, JobProgress, read_job_progress
from deploy.local.platform import State, Status
from deploy.local.settings import LocalSettings
from schemas.errors import counted

UNHEALTHY = 3
"""Exit code if a service has crashed or does not answer, or if a job restarts."""

NO_JOB = "no job runs. Start one: tunemesh submit"
NO_FLINK = "no job runs, since Flink does not. Start it: tunemesh up flink"

_STYLES = {State.RUNNING: "green", State.DEAD: "bold red", State.SILENT: "bold red"}
_FIGURES = ("records_per_second", "behind", "oldest_seconds", "delivered", "rejected", "throttled")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every metric.")
def status(as_json: bool) -> None:
    """Show the services, and the progress of each job's pipelines.

    Exits with 3 if a service has crashed or does not answer, or if a job restarts or has tasks that
    do not run.

    Example: tunemesh status --json
    """
    settings = LocalSettings.from_environment(os.environ)
    services = platform.status(settings, os.environ)
    jobs, problem = read_jobs(settings, services)
    if as_json:
        click.echo(json.dumps(document(services, jobs, problem), indent=2))
    else:
        terminal.show(
            *service_output(settings, services), "", *job_output(jobs, problem, time.time())
        )
    is_unhealthy = any(service.state in (State.DEAD, State.SILENT) for service in services)
    if is_unhealthy or any(job.problem for job in jobs):
        raise click.exceptions.Exit(UNHEALTHY)


def read_jobs(
    settings: LocalSettings, services: Sequence[Status]
) -> tuple[tuple[JobProgress, ...], str | None]:
    """Return the running jobs, or why none is shown."""
    is_up = any(
        service.server == flink_cluster.JOBMANAGER and service.state is State.RUNNING
        for service in services
    )
    if not is_up:
        return (), NO_FLINK
    try:
        jobs = read_job_progress(settings)
    except FlinkError as error:
        return (), str(error)
    return jobs, None if jobs else NO_JOB


def service_output(settings: LocalSettings, services: Iterable[Status]) -> Iterator[RenderableType]:
    """Yield the table of services, and the end of the log of each that has crashed."""
    services = tuple(services)
    rows = [
        (
            service.server,
            Text(service.state.value, style=_STYLES.get(service.state, "")),
            service.address if service.pid else "",
            f"process {service.pid} since {service.since:%H:%M:%S}" if service.since else "",
        )
        for service in services
    ]
    yield terminal.table(("service", "state", "address", "process"), rows, show_header=False)
    for service in services:
        if service.state is State.DEAD:
            yield f"{service.server} has crashed. The end of {settings.log(service.server)}:"
            yield from (f"    {line}" for line in service.last_lines)
            yield f"  Start it again: tunemesh up {service.service}"


def job_output(
    jobs: Iterable[JobProgress], problem: str | None, now: float
) -> Iterator[RenderableType]:
    """Yield the state of each job, and a table of its pipelines and their flows."""
    if problem is not None:
        yield problem
    for job in jobs:
        yield _job_line(job, now)
        if job.problem:
            yield Text(f"  {job.problem}", style="bold red")
        if not job.flows:
            yield "  its sources have not started yet"
            continue
        rows = []
        for pipeline, flows in _by_pipeline(job.flows):
            rows.append(_cells(f"  {pipeline}", total(pipeline, flows)))
            rows += [_cells(f"    {flow.flow}", flow) for flow in flows]
        header = ("", "records/s", "behind", "oldest", "delivered", "rejected", "throttled")
        yield terminal.table(header, rows, numbers=header[1:])


def total(pipeline: str, flows: Sequence[FlowProgress]) -> FlowProgress:
    """Return the sums of a pipeline's flows, and the maximum age."""

    def known(name: str) -> list[Any]:
        return [value for flow in flows if (value := getattr(flow, name)) is not None]

    sums: dict[str, Any] = {name: sum(known(name)) if known(name) else None for name in _FIGURES}
    sums["oldest_seconds"] = max(known("oldest_seconds"), default=None)
    return FlowProgress(pipeline, "all", **sums)


def document(
    services: Iterable[Status], jobs: Iterable[JobProgress], problem: str | None
) -> dict[str, object]:
    """Return everything for `--json`."""
    return {
        "parts": [
            {
                "server": service.server,
                "state": service.state.value,
                "process": service.pid,
                "since": service.since.astimezone().isoformat() if service.since else None,
                "address": service.address,
            }
            for service in services
        ],
        "jobs": [
            {
                **{key: value for key, value in asdict(job).items() if key != "flows"},
                "pipelines": {
                    pipeline: {
                        "total": _figures(total(pipeline, flows)),
                        "flows": [
                            {"flow": f.flow, **_figures(f), "metrics": dict(f.metrics)}
                            for f in flows
                        ],
                    }
                    for pipeline, flows in _by_pipeline(job.flows)
                },
            }
            for job in jobs
        ],
        "problem": problem,
    }


def _figures(flow: FlowProgress) -> dict[str, object]:
    return {name: getattr(flow, name) for name in _FIGURES}


def _by_pipeline(flows: Iterable[FlowProgress]) -> list[tuple[str, list[FlowProgress]]]:
    return [(name, list(group)) for name, group in groupby(flows, lambda flow: flow.pipeline)]


def _job_line(job: JobProgress, now: float) -> str:
    checkpoint = job.checkpoint
    done = (
        "no checkpoint yet"
        if checkpoint is None
        else f"checkpoint {_time(checkpoint.age_seconds)} ago"
        f" ({_time(checkpoint.seconds)}, {checkpoint.size_bytes / 1e6:,.1f} MB)"
    )
    restarts = counted(job.restarts, "restart")
    return f"job {job.id} {job.state} for {_time(now - job.started)}, {restarts}, {done}"


def _cells(label: str, flow: FlowProgress) -> tuple[str, ...]:
    rate = "?" if flow.records_per_second is None else f"{flow.records_per_second:,.1f}"
    oldest = "-" if flow.oldest_seconds == 0 else "?"
    return (
        label,
        rate,
        _count(flow.behind),
        _time(flow.oldest_seconds) if flow.oldest_seconds else oldest,
        _count(flow.delivered),
        _count(flow.rejected),
        # The enrichment is not throttled.
        _count(flow.throttled, "-"),
    )


def _count(value: int | None, unknown: str = "?") -> str:
    return unknown if value is None else f"{value:,}"


def _time(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
