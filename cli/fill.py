"""`tunemesh fill`: users, items and interactions to the domains' back ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from deploy.local.settings import LocalSettings
from schemas.model import load_contracts
from verification.directory import ReplayDirectory
from verification.entries import Source
from verification.fill import FillSummary
from verification.fill import fill as fill_stores
from verification.generator import GeneratedHour, Hour
from verification.progress import TerminalProgress


@click.command()
@click.argument(
    "directory", required=False, type=click.Path(file_okay=False, exists=True, path_type=Path)
)
@click.option("--generate", type=click.IntRange(min=1), help="Events of a synthetic hour instead.")
@click.option("--anomalies", is_flag=True, help="With duplicates, late events and unknown items.")
@click.option("--dirt", "anomalies", is_flag=True, hidden=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is generated.")
@click.option("--no-interactions", is_flag=True, help="Users and items alone.")
def fill(
    directory: Path | None, generate: int | None, anomalies: bool, seed: int, no_interactions: bool
) -> None:
    """Send users, items and interactions from DIRECTORY, or generated ones, to the back ends.

    They store them, and publish what they have stored (`tunemesh up services` and what it needs).
    """
    if (directory is None) == (generate is None):
        raise click.UsageError("give either a DIRECTORY or --generate N")
    settings = LocalSettings.from_environment(os.environ)
    contracts = load_contracts()
    source: Source
    if directory is not None:
        source = ReplayDirectory(directory, contracts)
    else:
        source = GeneratedHour(Hour(interactions=generate or 0, seed=seed, anomalies=anomalies))
    click.echo(source.description)
    progress = TerminalProgress(sys.stderr)
    try:
        summary = fill_stores(
            source, settings.services.url, contracts, progress, interactions=not no_interactions
        )
    finally:
        progress.close()
    for line in fill_lines(summary):
        click.echo(line)
    if summary.refused:
        raise click.exceptions.Exit(1)


def fill_lines(summary: FillSummary) -> list[str]:
    """The summary for the terminal."""
    domains = sorted({*summary.stored, *summary.stale, *summary.absent, *summary.refused})
    lines = [
        f"  {name:<16} {summary.stored[name]:>10,} stored {summary.stale[name]:>8,} stale"
        f" {summary.absent[name]:>8,} absent {summary.refused[name]:>8,} refused"
        for name in domains
    ]
    return [f"stores filled in {summary.seconds:.1f} s", *lines, *summary.problems]
