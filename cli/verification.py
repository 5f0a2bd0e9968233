"""The sub-commands of `tunemesh` that produce, account and look after dead letters."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deploy import dead_letters as letters
from deploy.local.endpoints import local_endpoints
from schemas.model import load_contracts
from verification.destinations import NAMES as DESTINATIONS
from verification.directory import ReplayDirectory
from verification.entries import Source
from verification.generator import GeneratedHour, Hour
from verification.progress import TerminalProgress
from verification.replay import ReplaySettings, ReplaySummary, connect_registry
from verification.replay import replay as replay_source
from verification.verify import VerifySettings, summary_lines
from verification.verify import verify as verify_run


@click.command()
@click.argument(
    "directory", required=False, type=click.Path(file_okay=False, exists=True, path_type=Path)
)
@click.option("--generate", type=click.IntRange(min=1), help="Events of a synthetic hour instead.")
@click.option("--rate", type=float, help="Interactions a second; as fast as possible without.")
@click.option(
    "--anomalies",
    is_flag=True,
    help="With duplicates, late events, unknown items and malformed records.",
)
@click.option("--dirt", "anomalies", is_flag=True, hidden=True)
@click.option(
    "--malformed",
    type=float,
    default=0.01,
    show_default=True,
    help="Share of malformed records among the anomalies.",
)
@click.option("--poison", "malformed", type=float, default=0.01, hidden=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is generated.")
@click.option("--users", type=int, help="Users in the generated catalogue.")
@click.option("--songs", type=int, help="Songs in the generated catalogue.")
@click.option("--podcasts", type=int, help="Podcasts in the generated catalogue.")
@click.option(
    "--settle",
    type=float,
    default=5.0,
    show_default=True,
    help="Seconds between users and items and the first interaction.",
)
@click.option(
    "--update-settle",
    type=float,
    default=0.0,
    show_default=True,
    help="Seconds between an update and the next interaction.",
)
@click.option("--run", help="Name of the run and of its ledger.")
def replay(
    directory: Path | None,
    generate: int | None,
    rate: float | None,
    anomalies: bool,
    malformed: float,
    seed: int,
    users: int | None,
    songs: int | None,
    podcasts: int | None,
    settle: float,
    update_settle: float,
    run: str | None,
) -> None:
    """Publish users, items and interactions from DIRECTORY, or generated ones.

    What was sent is in .tunemesh/ledger; `tunemesh verify` reconciles it with what came out.
    """
    if (directory is None) == (generate is None):
        raise click.UsageError("give either a DIRECTORY or --generate N")
    if directory is not None and anomalies:
        raise click.UsageError("--anomalies is an option of --generate; a replay set has its own")
    endpoints = local_endpoints()
    source: Source
    if directory is not None:
        source = ReplayDirectory(directory, load_contracts())
    else:
        source = GeneratedHour(
            Hour(
                interactions=generate or 0,
                seed=seed,
                anomalies=anomalies,
                malformed_share=malformed,
                users=users,
                songs=songs,
                podcasts=podcasts,
            )
        )
    settings = ReplaySettings(rate=rate, settle=settle, update_settle=update_settle, run=run)
    click.echo(source.description)
    progress = TerminalProgress(sys.stderr)
    try:
        summary = replay_source(source, endpoints, settings, progress)
    finally:
        progress.close()
    for line in replay_lines(summary):
        click.echo(line)


def replay_lines(summary: ReplaySummary) -> list[str]:
    """A replay's summary for the terminal."""
    return [
        f"run {summary.run}",
        f"  users and items     {summary.dimensions:>12,}  and {summary.updates:,} updates",
        (
            f"  interactions        {summary.interactions:>12,}  ({summary.valid:,} valid,"
            f" {summary.duplicates:,} duplicates, {summary.malformed:,} malformed in all topics)"
        ),
        f"  events a second     {summary.events_per_second:>12,.0f}  over {summary.seconds:.1f} s",
        f"  ledger              {summary.ledger}",
    ]


@click.command()
@click.option("--run", help="The run to verify; the newest without.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Longest time, seconds, that the pipeline gets to finish.",
)
@click.option(
    "--quiet",
    type=click.FloatRange(min=0),
    default=15.0,
    show_default=True,
    help="Stop waiting when nothing new has come for so many seconds.",
)
@click.option(
    "--stale-tolerance",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Milliseconds that an attached version may be behind.",
)
@click.option("--without-personalize", is_flag=True, help="Leave Personalize out of it.")
@click.option(
    "--destination",
    "destinations",
    multiple=True,
    type=click.Choice(DESTINATIONS),
    help="Reconcile this one, too: Personalize's users and items, Firehose, OpenSearch.",
)
def verify(
    run: str | None,
    wait: float,
    quiet: float,
    stale_tolerance: int,
    without_personalize: bool,
    destinations: tuple[str, ...],
) -> None:
    """Reconcile what was sent with what came out; exits with 1 when anything is off."""
    settings = VerifySettings(
        wait=wait,
        quiet=quiet,
        stale_tolerance_ms=stale_tolerance,
        personalize=not without_personalize,
        destinations=destinations,
    )
    progress = TerminalProgress(sys.stderr)
    try:
        report = verify_run(local_endpoints(), run, settings, progress)
    finally:
        progress.close()
    for line in summary_lines(report):
        click.echo(line)
    if not report.ok:
        sys.exit(1)


@click.group()
def dlq() -> None:
    """Dead letters: records that could not be used."""


_REASON = click.option("--reason", help="Only those with this reason, such as truncated_body.")


@dlq.command("list")
@_REASON
def dlq_list(reason: str | None) -> None:
    """Count dead letters by topic and reason."""
    found = letters.selected(letters.read_letters(local_endpoints()), reason)
    if not found:
        click.echo("no dead letters")
        return
    click.echo(f"{'topic':<24}{'step':<9}{'reason':<36}{'count':>9}  latest")
    for group in letters.grouped(found):
        click.echo(
            f"{group.topic:<24}{group.step:<9}{group.error_code:<36}{group.count:>9,}"
            f"  {group.latest.id}"
        )


@dlq.command("show")
@click.argument("letter_id", metavar="TOPIC:PARTITION:OFFSET")
def dlq_show(letter_id: str) -> None:
    """Print everything that is known of one dead letter."""
    endpoints = local_endpoints()
    registry = connect_registry(endpoints)
    (letter,) = letters.selected(
        letters.read_letters(endpoints, registry=registry), ids=[letter_id]
    )
    for line in letters.description(letter, load_contracts(), registry):
        click.echo(line)


@dlq.command("replay")
@_REASON
@click.option("--again", is_flag=True, help="Also those that have been replayed before.")
@click.argument("letter_ids", nargs=-1, metavar="[TOPIC:PARTITION:OFFSET]...")
def dlq_replay(reason: str | None, again: bool, letter_ids: tuple[str, ...]) -> None:
    """Publish refused records again, after a fix: those of a reason, or those named."""
    if reason is None and not letter_ids:
        raise click.UsageError("name a --reason or the dead letters to replay")
    endpoints = local_endpoints()
    chosen = letters.selected(letters.read_letters(endpoints), reason, letter_ids)
    progress = TerminalProgress(sys.stderr)
    try:
        outcome = letters.replay_letters(chosen, endpoints, again=again, progress=progress)
    finally:
        progress.close()
    click.echo(f"replayed {len(outcome.replayed):,} of {len(chosen):,}")
    if outcome.refused:
        click.echo(
            f"{len(outcome.refused):,} had been replayed before; --again replays them once more"
        )
        sys.exit(1)
