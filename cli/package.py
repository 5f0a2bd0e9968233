"""`tunemesh package`."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.package.assembly import build
from deploy.package.contents import APPLICATIONS, RUN_FILES
from deploy.package.wheels import PYTHONS


@click.command()
@click.option(
    "--application",
    type=click.Choice(list(APPLICATIONS)),
    default="stream",
    show_default=True,
    help="What to package.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("dist"),
    show_default=True,
    help="The folder for the zip and its description.",
)
@click.option(
    "--python",
    type=click.Choice(PYTHONS),
    default=PYTHONS[0],
    show_default=True,
    help="The version of Python that the wheels are for; the service has 3.12.",
)
def package(application: str, output: Path, python: str) -> None:
    """Build the zip that Managed Service for Apache Flink runs.

    The network is used for what the caches of jars and wheels lack.
    """
    built = build(application, output, python=python, report=click.echo)
    click.echo(f"{built.path}")
    click.echo(
        f"{built.bytes:,} bytes, {built.members} files, {built.seconds:.1f} s,"
        f" Python {built.description.python}, sha256 {built.sha256}"
    )
    for part, size in built.largest:
        click.echo(f"{size:>12,} {part}")
    options = ", ".join(f"{name}={value}" for name, value in RUN_FILES.items())
    click.echo(f"run options: {options}")
