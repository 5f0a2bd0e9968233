"""`tunemesh status`: the parts of the platform, and how far the running jobs have come."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import click

from deploy.local import flink_cluster, platform
from deploy.local.flink import FlinkError
from deploy.local.job_progress import FlowProgress, JobProgress, read_job_progress
from deploy.local.platform import State, Status
from deploy.local.settings import LocalSettings

UNWELL = 3
"""The exit code when a part has died or does not answer."""

NO_JOB = "no job runs; `tunemesh submit` starts one"
NO_FLINK = "no job runs: Flink is not up; `tunemesh up flink` starts it"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The same for programs, and every metric.")
def status(as_json: bool) -> None:
    """What runs, where and since when, and how far each job's pipelines have come.

    Exit code 3 if a part has died or does not answer.
    """
    settings = LocalSettings.from_environment(os.environ)
    parts = platform.status(settings, os.environ)
    jobs, problem = jobs_of(settings, parts)
    if as_json:
        click.echo(json.dumps(document(parts, jobs, problem), indent=2))
    else:
        for line in [*part_lines(settings, parts), "", *job_lines(jobs, problem, time.time())]:
            click.echo(line)
    if any(part.state in (State.DEAD, State.SILENT) for part in parts):
        raise click.exceptions.Exit(UNWELL)


def jobs_of(
    settings: LocalSettings, parts: Sequence[Status]
) -> tuple[tuple[JobProgress, ...], str | None]:
    """The jobs that have not ended, or why there is none to show."""
    up = any(
        part.server == flink_cluster.JOBMANAGER and part.state is State.RUNNING for part in parts
    )
    if not up:
        return (), NO_FLINK
    try:
        jobs = read_job_progress(settings)
    except FlinkError as error:
        return (), str(error)
    return jobs, None if jobs else NO_JOB


def part_lines(settings: LocalSettings, parts: Iterable[Status]) -> list[str]:
    """A line for each server; the end of its log for one that has died."""
    lines = []
    for part in parts:
        since = f"process {part.pid} since {part.since:%H:%M:%S}" if part.since else ""
        address = part.address if part.pid else ""
        lines.append(f"{part.server:<20} {part.state.value:<14} {address:<24} {since}".rstrip())
        if part.state is State.DEAD:
            lines.append(f"  {part.server} has died. The end of {settings.log(part.server)}:")
            lines += [f"    {line}" for line in part.last_lines]
            lines.append(f"  Start it again: tunemesh up {part.part}")
    return lines


def job_lines(jobs: Iterable[JobProgress], problem: str | None, now: float) -> list[str]:
    """A block for each job: a line for each pipeline, and below it one for each of its flows."""
    if problem is not None:
        return [problem]
    lines: list[str] = []
    for job in jobs:
        if lines:
            lines.append("")
        lines.append(_job_line(job, now))
        lines.append(
            f"  {'':<24}{'records/s':>10}{'behind':>10}{'oldest':>10}{'delivered':>12}"
            f"{'rejected':>10}{'throttled':>10}"
        )
        for pipeline, flows in _by_pipeline(job.flows):
            lines.append(_line(pipeline, total(pipeline, flows)))
            lines += [_line("  " + flow.flow, flow) for flow in flows]
        if not job.flows:
            lines.append("  its sources have not started yet")
    return lines


def total(pipeline: str, flows: Sequence[FlowProgress]) -> FlowProgress:
    """The flows of a pipeline as one: numbers added up, and the greatest age."""

    def known(name: str) -> list[Any]:
        return [value for flow in flows if (value := getattr(flow, name)) is not None]

    def added(name: str) -> Any:
        values = known(name)
        return sum(values) if values else None

    return FlowProgress(
        pipeline=pipeline,
        flow="all",
        records_per_second=added("records_per_second"),
        behind=added("behind"),
        oldest_seconds=max(known("oldest_seconds"), default=None),
        delivered=added("delivered"),
        rejected=added("rejected"),
        throttled=added("throttled"),
    )


def document(
    parts: Iterable[Status], jobs: Iterable[JobProgress], problem: str | None
) -> dict[str, object]:
    """All of it for `--json`."""
    return {
        "parts": [
            {
                "server": part.server,
                "state": part.state.value,
                "process": part.pid,
                "since": part.since.astimezone().isoformat() if part.since else None,
                "address": part.address,
            }
            for part in parts
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
    names = ("records_per_second", "behind", "oldest_seconds", "delivered", "rejected", "throttled")
    return {name: getattr(flow, name) for name in names}


def _by_pipeline(flows: Iterable[FlowProgress]) -> list[tuple[str, list[FlowProgress]]]:
    return [(name, list(found)) for name, found in groupby(flows, lambda flow: flow.pipeline)]


def _job_line(job: JobProgress, now: float) -> str:
    checkpoint = job.checkpoint
    done = (
        "no checkpoint yet"
        if checkpoint is None
        else f"checkpoint {_time(checkpoint.age_seconds)} ago"
        f" ({_time(checkpoint.seconds)}, {checkpoint.size_bytes / 1e6:,.1f} MB)"
    )
    restarts = f"{job.restarts} restart{'' if job.restarts == 1 else 's'}"
    return f"job {job.id} {job.state} for {_time(now - job.started)}, {restarts}, {done}"


def _line(label: str, flow: FlowProgress) -> str:
    rate = "?" if flow.records_per_second is None else f"{flow.records_per_second:,.1f}"
    return (
        f"  {label:<24}{rate:>10}{_number(flow.behind):>10}{_oldest(flow.oldest_seconds):>10}"
        f"{_number(flow.delivered):>12}{_number(flow.rejected):>10}{_throttled(flow):>10}"
    )


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _oldest(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return _time(seconds) if seconds else "-"


def _throttled(flow: FlowProgress) -> str:
    """Nobody throttles the enrichment."""
    return "-" if flow.throttled is None else f"{flow.throttled:,}"


def _time(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
