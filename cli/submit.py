"""`tunemesh submit`: the application on the local cluster."""

from __future__ import annotations

import os

import click

from cli.connections import require_services
from cli.deploy_options import parse_assignments, parse_pipelines
from cli.terminal import waiting_for
from deploy.local import application
from deploy.local.settings import LocalSettings
from jobs.settings import DEFAULT_PIPELINES, PIPELINES


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
@click.option("--savepoint", help="Restore the state from this savepoint.")
@click.option(
    "--prepare-only",
    is_flag=True,
    help="Create topics, schemas and the property file, and print its path; do not start a job.",
)
def submit(
    pipelines: tuple[str, ...],
    overrides: dict[str, dict[str, str]],
    savepoint: str | None,
    prepare_only: bool,
) -> None:
    """Create topics, register schemas, and start the application on the local cluster.

    `python -m jobs.main` accepts the same property file.

    \b
    Examples:
      tunemesh submit
      tunemesh submit --pipelines enrichment,analytics
    """
    settings = LocalSettings.from_environment(os.environ)
    require_services(settings, "kafka", "aws", *(() if prepare_only else ("flink",)))
    application.prepare(settings)
    if prepare_only:
        click.echo(str(application.write_properties(settings, pipelines, overrides)))
        return
    click.echo("topics and schemas exist; submitting the job")
    with waiting_for("Flink to run the job"):
        job = application.submit(settings, pipelines, overrides, savepoint=savepoint)
    click.echo(f"job {job} runs; web UI {settings.flink.url}")
