"""`tunemesh bootstrap-demo`: from empty stores to a trained campaign, continued by the stream.

Callers write to the domains' back ends, which publish; the stream enriches and archives. At a
hand-over time T, while events flow, the stores and the archive are exported, registered, granted
and imported up to T; the recommendations pipeline starts at T. In the end Personalize must have
each interaction exactly once.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import click

from cli import bootstrap, terminal
from cli.demos import with_source
from cli.demos.stream import top_items
from cli.local import fetch_jars, start_services, stop_services
from cli.main import run_shown
from cli.replay import show_fill
from connectors.aws.sdk import sdk_client
from connectors.clock import now_ms
from connectors.files import write_report
from connectors.products.location import Location
from connectors.products.manifest import read_manifest
from deploy.local import application
from deploy.local.settings import REGION, LocalSettings
from schemas.errors import TunemeshError
from schemas.model import Contracts, Role, load_contracts
from verification.background import run_in_background
from verification.entries import Entry, FunctionSource, Kind, Source
from verification.fill import fill
from verification.personalize_events import PersonalizeReader
from verification.progress import Progress, Step
from verification.stored import Difference, Expected, Stored, compare, read_stored

PARTS = ("kafka", "aws", "personalize", "opensearch", "flink", "postgresql", "dynamodb", "services")
APPLICATIONS = (("enrichment",), ("analytics",))
LISTENERS = 5
SHARE_BEFORE = 0.7
"""Share of the source that is published before T is chosen."""

MIN_EVENTS_A_SECOND = 50.0
FLOWING_SECONDS = 90.0
"""Approximate duration of the rest, at that rate or above."""

SETTLE_SECONDS = 240.0
DELETED_USER = "deleted_user"
"""Counted beside the reasons for which a row is not imported."""


class BootstrapDemoError(TunemeshError):
    """The demo ended, and Personalize does not have each interaction exactly once."""


def part(source: Source, first: int, last: int, rate: float = 0) -> Source:
    """Return the entries ``first`` to ``last`` of a source; the first part has users and items.

    ``rate``: entries a second, 0: unlimited. Duplicates of events of an earlier part are left out:
    imports have no event ids, so an event that is repeated after T would count twice.
    """

    def stream() -> Iterator[Entry]:
        began = time.monotonic()
        before: set[str] = set()
        for number, entry in enumerate(islice(source.stream(), last)):
            event_id = (entry.record or {}).get("event_id")
            if number < first:
                before.add(event_id or "")
            elif not (entry.kind is Kind.DUPLICATE and event_id in before):
                if rate:
                    due = began + (number - first) / rate
                    time.sleep(max(0.0, due - time.monotonic()))
                yield entry

    dimensions = (lambda: iter(())) if first else source.dimensions
    count = 0 if first else source.dimension_count
    return FunctionSource(source.description, count, last - first, dimensions, stream)


@click.command("bootstrap-demo")
@with_source(3000, 10_000, anomalies=False)
@click.option("--keep", is_flag=True, help="Keep everything running at the end.")
def bootstrap_demo(source: Source, keep: bool) -> None:
    """Fill the stores, export them, bootstrap Personalize, and continue with the stream.

    Writes reports/bootstrap.json. Exits with 1 unless Personalize has every interaction once.

    Example: tunemesh bootstrap-demo --events 20000
    """
    settings = replace(
        LocalSettings.from_environment(os.environ), task_slots=len(APPLICATIONS) + 1, taskmanagers=1
    )
    contracts = load_contracts()
    try:
        report = _run(settings, source, contracts)
    finally:
        if not keep:
            stop_services(settings)
    file = settings.reports / "bootstrap.json"
    write_report(file, report)
    counts = ", ".join(f"{report[name]:,} {name}" for name in ("users", "items", "interactions"))
    click.echo(f"Personalize has {counts}")
    errors = {name: report[name] for name in ("lost", "invented", "twice")}
    click.echo(", ".join(f"{name} {count}" for name, count in errors.items()) + f"; report: {file}")
    if any(errors.values()):
        raise BootstrapDemoError(f"verification failed; see {file}")


def _run(settings: LocalSettings, source: Source, contracts: Contracts) -> dict[str, Any]:
    began = time.monotonic()
    fetch_jars(["kafka", "opensearch", "dynamodb", "flink", "parquet", "s3"])
    start_services(settings, PARTS, fresh=True)
    application.prepare(settings, contracts)
    half = round(source.stream_count * SHARE_BEFORE)
    expected, listeners = expectation(source, contracts, half)
    for pipelines in APPLICATIONS:
        with terminal.waiting_for(f"Flink to run {pipelines[0]}"):
            application.submit(settings, pipelines, parallelism=1)
        click.echo(f"{pipelines[0]} runs")

    with terminal.ProgressDisplay() as progress:
        filled = fill(part(source, 0, half), settings.services.url, contracts, progress)
    show_fill(filled)
    before = {user: top_items(settings, user) for user in listeners}

    # Events flow at T, and while everything is exported and imported.
    left = source.stream_count - half
    rest = part(source, half, source.stream_count, max(MIN_EVENTS_A_SECOND, left / FLOWING_SECONDS))
    flow = run_in_background(lambda: fill(rest, settings.services.url, contracts))
    time.sleep(2)
    until = now_ms()
    _export(settings, contracts, until)
    run_shown("bootstrap", "--until", str(until))
    after = {user: top_items(settings, user) for user in listeners}
    click.echo("\n".join(_recommended(before, after)))

    imports = json.loads((settings.reports / bootstrap.REPORT).read_text())
    application.submit(
        settings,
        ("recommendations",),
        {"tunemesh.recommendations": imports["stream"]},
        parallelism=1,
    )
    click.echo("recommendations runs")
    rejected = _rejected(imports) + _of_deleted_users(settings, contracts)
    with terminal.ProgressDisplay() as progress:
        progress(Step("waiting for the last events"))
        flow.result()
        stored, difference = wait_until_stored(settings, expected, rejected, progress)
    return document(expected, stored, difference, rejected, before, after) | {
        "until": until,
        "imported": stored.imported.total(),
        "streamed": stored.streamed.total(),
        "seconds": round(time.monotonic() - began, 1),
    }


def expectation(source: Source, contracts: Contracts, half: int) -> tuple[Expected, list[str]]:
    """Return what Personalize must have in the end, and the most active users of the first part."""
    expected = Expected(contracts)
    played: Counter[str] = Counter()
    for entry in source.dimensions():
        expected.add(entry)
    for number, entry in enumerate(source.stream()):
        expected.add(entry)
        user_id = (entry.record or {}).get("user_id")
        if number < half and entry.domain == contracts.only(Role.INTERACTION).name and user_id:
            played[user_id] += 1
    return expected, [user for user, _ in played.most_common(LISTENERS)]


def wait_until_stored(
    settings: LocalSettings, expected: Expected, rejected: Counter[str], progress: Progress
) -> tuple[Stored, Difference]:
    """Return what Personalize has once nothing is missing except rejected rows, or at the limit."""
    left_out = rejected["no_user"] + rejected[DELETED_USER]
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        stored = read_stored(PersonalizeReader(settings.personalize.url), expected)
        difference = compare(expected, stored)
        if difference.missing <= left_out or time.monotonic() >= deadline:
            return stored, difference
        note = f"{difference.missing - left_out:,} interactions are missing"
        progress(Step("waiting for Personalize", note=note))
        time.sleep(1)


def document(
    expected: Expected,
    stored: Stored,
    difference: Difference,
    rejected: Counter[str],
    before: dict[str, list[str]],
    after: dict[str, list[str]],
) -> dict[str, Any]:
    """Return the report. Interactions without a user, or of deleted users, are not lost: they are
    not imported."""
    interactions = stored.imported + stored.streamed
    missing = {
        "users": len(expected.records["users"] - stored.users),
        "items": len(expected.records["items"] - stored.items),
    }
    return {
        "users": len(stored.users),
        "items": len(stored.items),
        "interactions": interactions.total(),
        "rejected": rejected.total(),
        "rejected_by_reason": dict(rejected),
        "lost": difference.missing
        - rejected["no_user"]
        - rejected[DELETED_USER]
        + sum(missing.values()),
        "invented": difference.invented,
        "twice": difference.twice,
        "missing": missing,
        "recommended_before": before,
        "recommended_after": after,
    }


def _export(settings: LocalSettings, contracts: Contracts, until: int) -> None:
    domains = [
        contract.name
        for role in (Role.USER, Role.ITEM, Role.INTERACTION)
        for contract in contracts.with_role(role)
    ]
    run_shown("export", *domains, "--until", str(until), "--kafka", settings.kafka.address)
    run_shown("catalog", "register", *domains)
    for domain in domains:
        pii = ("--pii", "pseudonymous", "--pii", "personal")
        run_shown("catalog", "grant", domain, bootstrap.CONSUMER, *pii)


def _rejected(imports: dict[str, Any]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for entry in imports["bootstrap"]["rejected"]:
        counts[entry["reason"]] += entry["count"]
    return counts


def _of_deleted_users(settings: LocalSettings, contracts: Contracts) -> Counter[str]:
    """Return the number of interactions that the export left out."""
    s3 = sdk_client("s3", REGION, settings.aws.url)
    manifest = read_manifest(s3, Location.of(contracts.only(Role.INTERACTION)))
    return Counter({DELETED_USER: manifest.deleted})


def _recommended(before: dict[str, list[str]], after: dict[str, list[str]]) -> Iterator[str]:
    for user, items in after.items():
        yield f"{user}: {_list(before[user])} -> {_list(items)}"


def _list(items: Sequence[str]) -> str:
    return ", ".join(items) or "nothing"
