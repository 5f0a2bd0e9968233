"""`tunemesh package`: the release artefact."""

from __future__ import annotations

from pathlib import Path

import click

from cli import terminal
from deploy.package.assembly import build
from deploy.package.contents import APPLICATIONS, RUN_FILES
from deploy.package.wheels import PYTHONS


@click.command()
@click.option(
    "--application",
    type=click.Choice(list(APPLICATIONS)),
    default="stream",
    help="Application to package.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("dist"),
    help="Folder of the zip and its description.",
)
@click.option(
    "--python",
    type=click.Choice(PYTHONS),
    default=PYTHONS[0],
    help="Python version of the wheels; the service has 3.12.",
)
def package(application: str, output: Path, python: str) -> None:
    """Build the zip for Managed Service for Apache Flink.

    Downloads the jars and wheels that the caches lack.

    Example: tunemesh package --output dist
    """
    with terminal.waiting_for("jars, wheels and zip"):
        built = build(application, output, python=python, report=click.echo)
    click.echo(f"{built.path}")
    click.echo(
        f"{built.bytes:,} bytes, {built.members} files, {built.seconds:.1f} s,"
        f" Python {built.description.python}, sha256 {built.sha256}"
    )
    rows = [(f"{size:,}", name) for name, size in built.largest]
    terminal.show(terminal.table(("bytes", "largest"), rows, numbers=("bytes",), show_header=False))
    options = ", ".join(f"{name}={value}" for name, value in RUN_FILES.items())
    click.echo(f"run options: {options}")
