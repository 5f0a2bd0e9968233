"""`tunemesh replay` and `tunemesh fill`: send a replay set, or generated data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli import terminal
from cli.connections import require_services
from cli.parameters import RUN_NAME, FiniteRange
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import LocalSettings
from schemas.model import load_contracts
from verification.anomalies import Anomalies
from verification.directory import ReplayDirectory
from verification.entries import Source
from verification.fill import FillSummary
from verification.fill import fill as fill_stores
from verification.generator import GENRES, GeneratedHour, Hour
from verification.ledger import ledger_path, require_new
from verification.replay import ReplaySettings, ReplaySummary
from verification.replay import replay as replay_source

MALFORMED_SHARE = FiniteRange(0, 1, max_open=True)
SIZE = click.IntRange(min=len(GENRES))
"""Each genre has a user and an item."""


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--seed", type=int, default=1, help="Seed of generated data and anomalies."),
        click.option("--dirt", "anomalies", is_flag=True, hidden=True),
        click.option(
            "--anomalies",
            is_flag=True,
            help="Add duplicates, late events and malformed records; to generated data also unknown"
            " items.",
        ),
        click.option("--generate", type=click.IntRange(min=1), help="Generate so many events."),
        click.argument(
            "directory",
            required=False,
            type=click.Path(file_okay=False, exists=True, path_type=Path),
        ),
    ):
        command = option(command)
    return command


def _source(
    directory: Path | None,
    generate: int | None,
    anomalies: bool,
    seed: int,
    malformed: float = Anomalies().malformed_share,
    **sizes: int | None,
) -> Source:
    if (directory is None) == (generate is None):
        raise click.UsageError("give either a DIRECTORY or --generate N")
    if generate is not None:
        hour = Hour(
            generate,
            seed=seed,
            anomalies=anomalies,
            malformed_share=malformed,
            users=sizes.get("users"),
            songs=sizes.get("songs"),
            podcasts=sizes.get("podcasts"),
        )
        return GeneratedHour(hour)
    for name, size in sizes.items():
        if size is not None:
            raise click.UsageError(f"--{name} is an option of --generate")
    assert directory is not None
    return open_directory(directory, Anomalies(seed, malformed) if anomalies else None)


def open_directory(directory: Path, added: Anomalies | None = None) -> Source:
    """Return the replay set in a directory, with ``added`` anomalies; name what is ignored."""
    source = ReplayDirectory(directory, load_contracts(), added)
    for note in source.notes:
        click.echo(note, err=True)
    return source


@click.command()
@_source_options
@click.option(
    "--rate",
    type=FiniteRange(0, min_open=True),
    help="Interactions a second; by default as many as possible.",
)
@click.option(
    "--malformed",
    type=MALFORMED_SHARE,
    default=0.01,
    help="Share of malformed records, with --anomalies.",
)
@click.option("--poison", "malformed", type=MALFORMED_SHARE, default=0.01, hidden=True)
@click.option("--users", type=SIZE, help="Number of generated users.")
@click.option("--songs", type=SIZE, help="Number of generated songs.")
@click.option("--podcasts", type=SIZE, help="Number of generated podcasts.")
@click.option(
    "--settle",
    type=FiniteRange(0),
    default=5.0,
    help="Seconds between users and items and the first interaction.",
)
@click.option(
    "--update-settle",
    type=FiniteRange(0),
    default=0.0,
    help="Seconds between an update and the next interaction.",
)
@click.option("--run", type=RUN_NAME, help="Name of the run and of its ledger.")
def replay(
    directory: Path | None,
    generate: int | None,
    anomalies: bool,
    seed: int,
    rate: float | None,
    malformed: float,
    users: int | None,
    songs: int | None,
    podcasts: int | None,
    settle: float,
    update_settle: float,
    run: str | None,
) -> None:
    """Publish the users, items and interactions of DIRECTORY, or generated ones.

    Every record is written to a ledger in .tunemesh/ledger; `tunemesh verify` reconciles it with
    the destinations.

    \b
    Examples:
      tunemesh replay --generate 10000 --anomalies --rate 500
      tunemesh replay recordings/monday --run monday
    """
    sizes = {"users": users, "songs": songs, "podcasts": podcasts}
    source = _source(directory, generate, anomalies, seed, malformed, **sizes)
    settings = LocalSettings.from_environment(os.environ)
    if run is not None:
        require_new(ledger_path(settings.home, run))
    require_services(settings, "kafka", "aws")
    click.echo(source.description)
    pace = ReplaySettings(rate=rate, settle=settle, update_settle=update_settle, run=run)
    with terminal.ProgressDisplay() as progress:
        summary = replay_source(source, local_endpoints(settings), pace, progress)
    show_replay(summary)


def show_replay(summary: ReplaySummary) -> None:
    """Print the summary of a replay."""
    rows = [
        ("users and items", f"{summary.dimensions:,}", f"and {summary.updates:,} updates"),
        (
            "interactions",
            f"{summary.interactions:,}",
            (
                f"{summary.valid:,} valid, {summary.duplicates:,} duplicates,"
                f" {summary.malformed:,} malformed in all topics"
            ),
        ),
        ("events a second", f"{summary.events_per_second:,.0f}", f"over {summary.seconds:.1f} s"),
        ("ledger", "", str(summary.ledger)),
    ]
    click.echo(f"run {summary.run}")
    terminal.show(terminal.table(("", "n", "of"), rows, numbers=("n",), show_header=False))


@click.command()
@_source_options
@click.option("--no-interactions", is_flag=True, help="Send users and items only.")
def fill(
    directory: Path | None, generate: int | None, anomalies: bool, seed: int, no_interactions: bool
) -> None:
    """Send the users, items and interactions of DIRECTORY, or generated ones, to the back ends.

    The back ends store and publish them (`tunemesh up services`, and the services that it needs).
    Malformed records are left out. Exits with 1 if a back end refuses a record.

    Example: tunemesh fill --generate 1000
    """
    source = _source(directory, generate, anomalies, seed)
    settings = LocalSettings.from_environment(os.environ)
    require_services(settings, "services")
    click.echo(source.description)
    with terminal.ProgressDisplay() as progress:
        summary = fill_stores(
            source,
            settings.services.url,
            load_contracts(),
            progress,
            interactions=not no_interactions,
        )
    show_fill(summary)
    if summary.refused:
        raise click.exceptions.Exit(1)


def show_fill(summary: FillSummary) -> None:
    """Print the answers of the back ends by domain."""
    counts = (summary.stored, summary.stale, summary.absent, summary.refused)
    rows = [
        (domain, *(f"{count[domain]:,}" for count in counts))
        for domain in sorted({domain for count in counts for domain in count})
    ]
    header = ("domain", "stored", "stale", "absent", "refused")
    click.echo(f"stores filled in {summary.seconds:.1f} s")
    terminal.show(terminal.table(header, rows, numbers=header[1:]), *summary.problems)
