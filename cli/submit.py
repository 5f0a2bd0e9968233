"""`tunemesh submit`: the application on the laptop's cluster."""

from __future__ import annotations

import os

import click

from cli.deploy_options import parse_assignments
from deploy.local import application
from deploy.local.settings import LocalSettings
from jobs.settings import DEFAULT_PIPELINES, PIPELINES


@click.command()
@click.option(
    "--pipelines",
    default=",".join(DEFAULT_PIPELINES),
    show_default=True,
    help=f"What the application runs: one or more of {', '.join(PIPELINES)}.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="GROUP:NAME=VALUE",
    help="A property, such as tunemesh.application:python.execution-mode=process.",
)
@click.option("--savepoint", help="Start from this savepoint.")
@click.option(
    "--prepare-only",
    is_flag=True,
    help="Topics, schemas and the property file, which is named; start nothing.",
)
def submit(
    pipelines: str, assignments: tuple[str, ...], savepoint: str | None, prepare_only: bool
) -> None:
    """Create topics, register schemas and start the application on the local cluster.

    The property file that it gets is the one that `python -m jobs.main` takes, too.
    """
    settings = LocalSettings.from_environment(os.environ)
    chosen = tuple(name.strip() for name in pipelines.split(","))
    overrides = parse_assignments(assignments)
    application.prepare(settings)
    if prepare_only:
        click.echo(str(application.write_properties(settings, chosen, overrides)))
        return
    click.echo("topics and schemas are there; submitting the job")
    job = application.submit(settings, chosen, overrides, savepoint=savepoint)
    click.echo(f"job {job} runs; web UI {settings.flink.url}")
