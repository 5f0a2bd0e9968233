"""`tunemesh dlq`: count, show and replay dead letters."""

from __future__ import annotations

import os

import click

from cli import terminal
from cli.connections import require_services
from cli.parameters import RECORD_ID
from deploy import dead_letters
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import LocalSettings
from schemas.model import load_contracts
from verification.endpoints import Endpoints
from verification.replay import connect_registry


@click.group()
def dlq() -> None:
    """Dead letters: records that could not be decoded or delivered."""


_REASON = click.option("--reason", help="Only with this reason, such as truncated_body.")


@dlq.command("list")
@_REASON
def dlq_list(reason: str | None) -> None:
    """Count new and replayed dead letters by topic, step and reason.

    The column data has the PII class of the topic's records, and so of the payloads.

    Example: tunemesh dlq list --reason truncated_body
    """
    endpoints, contracts = _endpoints(), load_contracts()
    letters = dead_letters.select(dead_letters.read_dead_letters(endpoints), reason)
    if not letters:
        click.echo("no dead letters")
        return
    rows = [
        (
            group.topic,
            group.step,
            group.error_code,
            f"{group.count - group.replayed:,}",
            f"{group.replayed:,}",
            str(dead_letters.data_class(group.topic, contracts)),
            group.latest.id,
        )
        for group in dead_letters.group(letters, endpoints)
    ]
    header = ("topic", "step", "reason", "new", "replayed", "data", "latest")
    terminal.show(terminal.table(header, rows, numbers=("new", "replayed")))


@dlq.command("show", short_help="Print one dead letter: its fields and its payload.")
@click.argument("letter_id", type=RECORD_ID, metavar="TOPIC:PARTITION:OFFSET")
def dlq_show(letter_id: str) -> None:
    """Print one dead letter: its fields, its payload, and the payload's fields.

    Example: tunemesh dlq show interactions:0:1234
    """
    endpoints = _endpoints()
    registry = connect_registry(endpoints)
    letters = dead_letters.read_dead_letters(endpoints, registry=registry)
    (letter,) = dead_letters.select(letters, ids=[letter_id])
    for line in dead_letters.describe(letter, load_contracts(), registry):
        click.echo(line)


@dlq.command("replay")
@_REASON
@click.option("--again", is_flag=True, help="Also dead letters that were replayed before.")
@click.argument("letter_ids", type=RECORD_ID, nargs=-1, metavar="[TOPIC:PARTITION:OFFSET]...")
def dlq_replay(reason: str | None, again: bool, letter_ids: tuple[str, ...]) -> None:
    """Publish rejected records again, after a fix: by reason, or by id.

    Exits with 1 if some were replayed before, or were refused by a back end and are on no topic.

    Example: tunemesh dlq replay --reason unknown_schema_id
    """
    if reason is None and not letter_ids:
        raise click.UsageError("name a --reason or the dead letters to replay")
    endpoints = _endpoints()
    letters = dead_letters.select(dead_letters.read_dead_letters(endpoints), reason, letter_ids)
    with terminal.ProgressDisplay() as progress:
        outcome = dead_letters.replay_dead_letters(
            letters, endpoints, again=again, progress=progress
        )
    click.echo(f"replayed {len(outcome.replayed):,} of {len(letters):,}")
    if outcome.skipped:
        click.echo(f"{len(outcome.skipped):,} were replayed before; --again replays them")
    if outcome.unpublished:
        click.echo(
            f"{len(outcome.unpublished):,} were refused by a back end and are on no topic; correct"
            " them in its store, which publishes them"
        )
    if outcome.skipped or outcome.unpublished:
        raise click.exceptions.Exit(1)


def _endpoints() -> Endpoints:
    settings = LocalSettings.from_environment(os.environ)
    require_services(settings, "kafka", "aws")
    return local_endpoints(settings)
