"""`tunemesh submit`: the application on the local cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from cli.connections import require_services
from cli.deploy_options import parse_assignments, parse_pipelines
from cli.terminal import waiting_for
from connectors.clock import SYSTEM_CLOCK, Clock
from deploy.local import application
from deploy.local.flink import FlinkRest
from deploy.local.settings import LocalSettings
from deploy.upgrades import local_deployment
from deploy.upgrades.preflight import pipelines_of
from jobs.settings import DEFAULT_PIPELINES, PIPELINES, pipelines_of_job
from schemas.errors import TunemeshError, counted

SLOT_SECONDS = 10.0
"""Time for the JobManager to notice the slots of a job that has just ended."""


class SubmitError(TunemeshError):
    """The application cannot run beside the jobs of the cluster."""


def require_room(
    settings: LocalSettings,
    pipelines: Sequence[str],
    parallelism: int | None,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Raise SubmitError if a job has one of the pipelines or is upgraded by `tunemesh deploy`, or
    if too few task slots are free."""
    rest = FlinkRest.of(settings)
    running = rest.running_jobs()
    for deployment in local_deployment.read_all(settings):
        if deployment.pending is not None or deployment.job in [job.id for job in running]:
            raise SubmitError(
                f"the application {deployment.name} of `tunemesh deploy` has this cluster. Change"
                " it: tunemesh deploy upgrade. Or stop all jobs first: tunemesh down flink;"
                " tunemesh up flink"
            )
    for job in running:
        if both := set(pipelines) & set(pipelines_of_job(job.name)):
            raise SubmitError(
                f"the job {job.id} ({job.name}) already runs {' and '.join(sorted(both))}. Stop all"
                " jobs first: tunemesh down flink; tunemesh up flink"
            )
    needed = parallelism or settings.taskmanagers * settings.task_slots
    deadline = clock.monotonic() + SLOT_SECONDS
    while (free := rest.free_slots()) < needed:
        if clock.monotonic() >= deadline:
            jobs = ", ".join(f"{job.id} ({job.name})" for job in running) or "none"
            raise SubmitError(
                f"{counted(needed, 'task slot')} are needed, {free} are free. Running jobs: {jobs}."
                " Set --parallelism, or TUNEMESH_TASK_SLOTS before tunemesh up flink"
            )
        clock.sleep(0.2)


@click.command()
@click.option(
    "--pipelines",
    default=",".join(DEFAULT_PIPELINES),
    callback=lambda context, option, text: parse_pipelines(text),
    help=f"Pipelines of the application: one or more of {', '.join(PIPELINES)}.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="GROUP:NAME=VALUE",
    callback=lambda context, option, texts: parse_assignments(texts),
    help="Set a property, such as tunemesh.application:python.execution-mode=process. Repeatable.",
)
@click.option(
    "--parallelism",
    type=click.IntRange(1, 256),
    help="Number of task slots; by default all of the cluster.",
)
@click.option("--savepoint", help="Restore the state from this savepoint.")
@click.option(
    "--prepare-only",
    is_flag=True,
    help="Create topics, schemas and the property file, and print its path; do not start a job.",
)
def submit(
    pipelines: tuple[str, ...],
    overrides: dict[str, dict[str, str]],
    parallelism: int | None,
    savepoint: str | None,
    prepare_only: bool,
) -> None:
    """Create topics, register schemas, and start the application on the local cluster.

    Several applications with other pipelines share the cluster if each has a part of its task
    slots. `python -m jobs.main` accepts the same property file.

    \b
    Examples:
      tunemesh submit
      tunemesh submit --pipelines enrichment,analytics --parallelism 1
    """
    settings = LocalSettings.from_environment(os.environ)
    require_services(settings, "kafka", "aws", *(() if prepare_only else ("flink",)))
    if not prepare_only:
        groups = application.property_groups(settings, pipelines, overrides)
        require_room(settings, pipelines_of(groups), parallelism)
    application.prepare(settings)
    if prepare_only:
        click.echo(str(application.write_properties(settings, pipelines, overrides)))
        return
    click.echo("topics and schemas exist; submitting the job")
    with waiting_for("Flink to run the job"):
        job = application.submit(
            settings, pipelines, overrides, savepoint=savepoint, parallelism=parallelism
        )
    click.echo(f"job {job} runs; web UI {settings.flink.url}")
