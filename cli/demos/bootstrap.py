"""`tunemesh bootstrap-demo`: from empty stores to a trained recommender, and on by the stream.

Callers write to the domains' back ends, which publish; the stream enriches and archives. At a
moment T, while events flow, the stores and the archive are exported, registered, granted and
imported up to T; the recommendations pipeline starts at T. In the end each interaction must be
known to Personalize exactly once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from cli import bootstrap
from cli.demos.stream import top_items
from cli.fill import fill_lines
from cli.local import fetch_jars
from cli.main import given
from connectors.clock import now_ms
from connectors.files import write_report
from deploy.local import application, platform
from deploy.local.settings import LocalSettings
from schemas.errors import TunemeshError
from schemas.model import Contracts, Role, load_contracts
from verification.background import Background
from verification.directory import ReplayDirectory
from verification.entries import Entry, Kind, Source
from verification.fill import fill
from verification.generator import GeneratedHour, Hour
from verification.known import Difference, Expected, Known, compare, read_known
from verification.personalize_events import PersonalizeReader
from verification.progress import TerminalProgress

PARTS = ("kafka", "aws", "personalize", "opensearch", "flink", "postgresql", "dynamodb", "services")
APPLICATIONS = (("enrichment",), ("analytics",))
LISTENERS = 5
BEFORE = 0.7
"""The share of the source that is published before the moment is chosen."""

LEAST_EVENTS_A_SECOND = 50.0
FLOWING_SECONDS = 90.0
"""About how long the rest takes, at that rate or above."""

SETTLED_SECONDS = 240.0


class BootstrapDemoError(TunemeshError):
    """The demo ended, but Personalize does not know what it should."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a source: entries of its stream from ``first`` to ``last``, its users and items
    with the first stretch. ``rate``: entries a second, 0: as fast as they are taken.

    What repeats an event of an earlier stretch is left out: an import has no event ids, so an
    event that its producer repeats across the moment would be known twice.
    """

    source: Source
    first: int
    last: int
    rate: float = 0

    @property
    def description(self) -> str:
        """Of the source."""
        return self.source.description

    @property
    def dimension_count(self) -> int:
        """Users and items."""
        return 0 if self.first else self.source.dimension_count

    @property
    def stream_count(self) -> int:
        """Entries of the stretch."""
        return self.last - self.first

    def dimensions(self) -> Iterator[Entry]:
        """Those of the source, once."""
        return iter(()) if self.first else self.source.dimensions()

    def stream(self) -> Iterator[Entry]:
        """The stretch, at its rate."""
        began = time.monotonic()
        before: set[str] = set()
        for number, entry in enumerate(self.source.stream()):
            if number >= self.last:
                return
            event_id = (entry.record or {}).get("event_id")
            if number < self.first:
                before.add(event_id or "")
            elif not (entry.kind is Kind.DUPLICATE and event_id in before):
                if self.rate:
                    due = began + (number - self.first) / self.rate
                    time.sleep(max(0.0, due - time.monotonic()))
                yield entry


@click.command("bootstrap-demo")
@click.option(
    "--replay",
    "directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="A replay set instead of a generated hour.",
)
@click.option("--events", type=click.IntRange(min=3000), default=10_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the generated hour.")
@click.option("--keep", is_flag=True, help="Leave everything running at the end.")
def bootstrap_demo(directory: Path | None, events: int, seed: int, keep: bool) -> None:
    """Fill the stores, export, bootstrap Personalize, and go on with the stream."""
    settings = replace(
        LocalSettings.from_environment(os.environ), task_slots=len(APPLICATIONS) + 1, taskmanagers=1
    )
    contracts = load_contracts()
    source = _source(directory, events, seed, contracts)
    try:
        report = _run(settings, source, contracts)
    finally:
        if not keep:
            platform.down(settings, report=click.echo)
    file = settings.reports / "bootstrap.json"
    write_report(file, report)
    counts = ", ".join(f"{report[name]:,} {name}" for name in ("users", "items", "interactions"))
    click.echo(f"Personalize knows {counts}")
    off = {name: report[name] for name in ("lost", "invented", "twice")}
    click.echo(", ".join(f"{name} {count}" for name, count in off.items()) + f"; report: {file}")
    if any(off.values()):
        raise BootstrapDemoError("something is off: see the report")


def _source(directory: Path | None, events: int, seed: int, contracts: Contracts) -> Source:
    if directory is not None:
        return ReplayDirectory(directory, contracts)
    return GeneratedHour(Hour(interactions=events, seed=seed))


def _run(settings: LocalSettings, source: Source, contracts: Contracts) -> dict[str, Any]:
    began = time.monotonic()
    fetch_jars(["kafka", "opensearch", "dynamodb", "flink", "parquet", "s3"])
    platform.up(settings, PARTS, environ=os.environ, fresh=True, report=click.echo)
    application.prepare(settings, contracts)
    half = round(source.stream_count * BEFORE)
    expected, listeners = expectation(source, contracts, half)
    for pipelines in APPLICATIONS:
        application.submit(settings, pipelines, parallelism=1)
        click.echo(f"{pipelines[0]} runs")

    progress = TerminalProgress(sys.stderr)
    filled = fill(Part(source, 0, half), settings.services.url, contracts, progress)
    progress.close()
    click.echo("\n".join(fill_lines(filled)))
    before = {user: top_items(settings, user) for user in listeners}

    # Events flow while the moment passes, and while everything is exported and imported.
    left = source.stream_count - half
    rest = Part(
        source, half, source.stream_count, max(LEAST_EVENTS_A_SECOND, left / FLOWING_SECONDS)
    )
    flow = Background(lambda: fill(rest, settings.services.url, contracts))
    time.sleep(2)
    moment = now_ms()
    _export(settings, contracts, moment)
    given("bootstrap", "--until", str(moment))
    after = {user: top_items(settings, user) for user in listeners}
    click.echo("\n".join(_recommended(before, after)))

    imports = json.loads((settings.reports / bootstrap.REPORT).read_text())
    application.submit(
        settings,
        ("recommendations",),
        {"tunemesh.recommendations": imports["stream"]},
        parallelism=1,
    )
    click.echo("recommendations runs; waiting until Personalize knows the rest")
    flow.result()
    rejected = _rejected(imports)
    known, difference = settled(settings, expected, rejected["no_user"])
    return document(expected, known, difference, rejected, before, after) | {
        "until": moment,
        "imported": known.imported.total(),
        "streamed": known.streamed.total(),
        "seconds": round(time.monotonic() - began, 1),
    }


def expectation(source: Source, contracts: Contracts, half: int) -> tuple[Expected, list[str]]:
    """What Personalize is to know in the end, and the users who listened most in the first part."""
    expected = Expected(contracts)
    heard: Counter[str] = Counter()
    for entry in source.dimensions():
        expected.add(entry)
    for number, entry in enumerate(source.stream()):
        expected.add(entry)
        user_id = (entry.record or {}).get("user_id")
        if number < half and entry.domain == contracts.only(Role.INTERACTION).name and user_id:
            heard[user_id] += 1
    return expected, [user for user, _ in heard.most_common(LISTENERS)]


def settled(settings: LocalSettings, expected: Expected, no_user: int) -> tuple[Known, Difference]:
    """What Personalize knows when nothing is missing any more but what could not be imported, or
    after a limit."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        known = read_known(PersonalizeReader(settings.personalize.url), expected)
        difference = compare(expected, known)
        if difference.unknown <= no_user or time.monotonic() >= deadline:
            return known, difference
        time.sleep(1)


def document(
    expected: Expected,
    known: Known,
    difference: Difference,
    rejected: Counter[str],
    before: dict[str, list[str]],
    after: dict[str, list[str]],
) -> dict[str, Any]:
    """The report. An anonymous interaction cannot be imported, the service's rows have a user: as
    many as the bootstrap has rejected for it are not lost."""
    interactions = known.imported + known.streamed
    missing = {
        "users": len(expected.records["users"] - known.users),
        "items": len(expected.records["items"] - known.items),
    }
    return {
        "users": len(known.users),
        "items": len(known.items),
        "interactions": interactions.total(),
        "rejected": rejected.total(),
        "rejected_by_reason": dict(rejected),
        "lost": difference.unknown - rejected["no_user"] + sum(missing.values()),
        "invented": difference.invented,
        "twice": difference.twice,
        "missing": missing,
        "recommended_before": before,
        "recommended_after": after,
    }


def _export(settings: LocalSettings, contracts: Contracts, moment: int) -> None:
    domains = [
        one.name
        for role in (Role.USER, Role.ITEM, Role.INTERACTION)
        for one in contracts.with_role(role)
    ]
    given("export", *domains, "--until", str(moment), "--kafka", settings.kafka.address)
    given("catalog", "register", *domains)
    for domain in domains:
        pii = ("--pii", "pseudonymous", "--pii", "personal")
        given("catalog", "grant", domain, bootstrap.CONSUMER, *pii)


def _rejected(imports: dict[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in imports["bootstrap"]["rejected"]:
        found[entry["reason"]] += entry["count"]
    return found


def _recommended(before: dict[str, list[str]], after: dict[str, list[str]]) -> Iterator[str]:
    for user, items in after.items():
        yield f"{user}: {_list(before[user])} -> {_list(items)}"


def _list(items: Sequence[str]) -> str:
    return ", ".join(items) or "nothing"
