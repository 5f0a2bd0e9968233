"""`tunemesh verify`: reconcile a run, and print the reconciliation report."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click
from rich.console import RenderableType
from rich.text import Text

from cli import terminal
from cli.connections import require_services
from cli.parameters import RUN_NAME, FiniteRange
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import LocalSettings
from schemas.errors import counted
from verification.destinations import NAMES as DESTINATIONS
from verification.ledger import Ledger, ledger_path
from verification.verify import VerifyReport, VerifySettings
from verification.verify import verify as verify_run

MAX_SHOWN_IDS = 20
"""Of each kind of finding; the report file has all."""


@click.command()
@click.option("--run", type=RUN_NAME, help="Name of the run; by default the newest.")
@click.option(
    "--wait",
    type=FiniteRange(min=0),
    default=60.0,
    help="Maximum seconds to wait for the pipelines to finish.",
)
@click.option(
    "--quiet",
    type=FiniteRange(min=0),
    default=15.0,
    help="Stop waiting after so many seconds without a new record.",
)
@click.option(
    "--stale-tolerance",
    type=click.IntRange(min=0),
    default=0,
    help="Accept a user or item that was replaced up to so many milliseconds before the event.",
)
@click.option("--without-personalize", is_flag=True, help="Do not reconcile PutEvents.")
@click.option(
    "--destination",
    "destinations",
    multiple=True,
    type=click.Choice(DESTINATIONS),
    help="Also reconcile Personalize's users and items, Firehose, OpenSearch. Repeatable.",
)
def verify(
    run: str | None,
    wait: float,
    quiet: float,
    stale_tolerance: int,
    without_personalize: bool,
    destinations: tuple[str, ...],
) -> None:
    """Reconcile what a run published with every destination.

    Prints the reconciliation report and writes it to reports/verify.json. Exits with 1 if a record
    is lost, invented or enriched wrongly.

    Example: tunemesh verify --destination datasets --wait 120
    """
    settings = LocalSettings.from_environment(os.environ)
    services = ["kafka", "aws"]
    if not without_personalize or "datasets" in destinations:
        services.append("personalize")
    if {"search", "trends"} & set(destinations):
        services.append("opensearch")
    if run is not None:
        Ledger.open(ledger_path(settings.home, run)).close()
    require_services(settings, *services)
    with terminal.ProgressDisplay() as progress:
        report = verify_run(
            local_endpoints(settings),
            run,
            VerifySettings(
                wait=wait,
                quiet=quiet,
                stale_tolerance_ms=stale_tolerance,
                personalize=not without_personalize,
                destinations=destinations,
            ),
            progress,
        )
    terminal.show(*report_output(report))
    if not report.ok:
        raise click.exceptions.Exit(1)


def report_output(report: VerifyReport) -> Iterator[RenderableType]:
    """The reconciliation report for the terminal."""

    def count(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    def delays(*values: int | None) -> str:
        return " / ".join("-" if value is None else f"{value:,} ms" for value in values)

    def errors(value: int) -> Text:
        return Text(f"{value:,}", style="bold red" if value else "green")

    rows: list[tuple[str, RenderableType]] = [
        ("produced interactions", count(report.produced)),
        ("valid events", count(report.valid)),
        ("enriched", count(report.enriched)),
        ("  without user / without item", f"{report.without_user:,} / {report.without_item:,}"),
        ("  emitted again", count(report.reemitted)),
        ("accepted by Personalize", count(report.accepted)),
        ("  duplicates ignored", count(report.duplicates_ignored)),
        (
            "dead letters",
            count(sum(report.dead_letters.values()) + sum(report.rejected.values())),
        ),
        *((f"  {code}", count(number)) for code, number in report.dead_letters.items()),
        *((f"  at delivery: {code}", count(number)) for code, number in report.rejected.items()),
        ("lost", errors(report.lost)),
        ("invented", errors(report.invented)),
        ("misenriched", errors(report.misenriched)),
        ("emission p50 / p99", delays(report.emission_p50_ms, report.emission_p99_ms)),
        ("acceptance p50 / p99", delays(report.acceptance_p50_ms, report.acceptance_p99_ms)),
    ]
    optional = (
        ("left out as identical", report.identical_ignored),
        ("sent, not acknowledged", report.unacknowledged),
        ("not checked (unsure versions)", report.unchecked),
        ("of other runs and producers", report.others),
    )
    rows += [(name, count(value)) for name, value in optional if value]
    yield f"run {report.run}, reconciled in {report.seconds:.1f} s"
    yield terminal.table(("", "count"), rows, numbers=("count",), show_header=False)
    if report.destinations:
        header = ("destination", "found", "expected", "lost", "invented", "wrong", "rejected")
        yield terminal.table(
            header,
            [
                (
                    one.name,
                    count(one.found),
                    count(one.expected),
                    *(errors(len(ids)) for ids in (one.lost, one.invented, one.wrong)),
                    count(one.rejected),
                )
                for one in report.destinations
            ],
            numbers=header[1:],
        )
    problems = {
        fault.value: [f"{f.id}  {f.detail}" for f in faults]
        for fault, faults in report.by_fault().items()
    }
    for destination in report.destinations:
        for kind in ("lost", "invented", "wrong"):
            if ids := getattr(destination, kind):
                problems[f"{destination.name}: {kind}"] = list(ids)
        for difference in destination.differences:
            problems.setdefault(f"{destination.name}: differing fields", []).append(difference)
    for name, ids in problems.items():
        yield Text(f"{name}: {len(ids):,}", style="bold red")
        yield from (f"  {text}" for text in ids[:MAX_SHOWN_IDS])
        if len(ids) > MAX_SHOWN_IDS:
            yield f"  ... and {len(ids) - MAX_SHOWN_IDS:,} more in reports/verify.json"
    if report.ok:
        yield Text("every record is reconciled", style="bold green")
    else:
        findings = len(report.findings) + sum(
            len(one.lost) + len(one.invented) + len(one.wrong) for one in report.destinations
        )
        yield Text(counted(findings, "finding"), style="bold red")
