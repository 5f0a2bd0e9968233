"""`tunemesh demo`: the whole stream on this machine, up to changed recommendations."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import boto3
import click

from cli import terminal
from cli.demos import with_source
from cli.local import start_services, stop_services
from cli.parameters import FiniteRange
from cli.verify import report_output
from connectors.clock import now_ms
from connectors.files import write_report
from deploy.local import application
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import ACCESS_KEY, ACCOUNT, REGION, SECRET_KEY, LocalSettings
from jobs.settings import DEFAULT_PIPELINES, PIPELINES
from schemas.errors import TunemeshError
from schemas.model import Contracts, Role, load_contracts
from schemas.projection import project_item, record_id
from verification.background import run_in_background
from verification.entries import Entry, FunctionSource, Kind, Source
from verification.personalize_events import PersonalizeReader
from verification.progress import Step
from verification.replay import ReplaySettings, ReplaySummary, replay
from verification.verify import VerifyReport, VerifySettings, verify

CAMPAIGN = f"arn:aws:personalize:{REGION}:{ACCOUNT}:campaign/tunemesh"
PLAYS = 8
"""Number of items that the demo's user likes at the end."""

WARM_UP_EVENTS = 5_000
"""Number of first events among which the demo's user is chosen."""

REPORTED = (
    "produced", "valid", "enriched", "accepted", "dead_letters", "rejected", "duplicates_ignored",
    "identical_ignored", "reemitted", "without_user", "without_item", "emission_p50_ms",
    "emission_p99_ms",
)  # fmt: skip
ERRORS = ("lost", "invented", "misenriched")


class DemoError(TunemeshError):
    """The demo ended, and the verification failed."""


@dataclass(frozen=True, slots=True)
class DemoUser:
    """A user whose recommendations are shown, and items of another taste that they will like."""

    user_id: str
    plays: tuple[str, ...]


def likes_of(demo_user: DemoUser, stamp_ms: int) -> Source:
    """Return a source of a like of each item, a second apart."""
    entries = [
        Entry(
            "interactions",
            {
                "event_id": f"demo-{stamp_ms}-{number}",
                "user_id": demo_user.user_id,
                "session_id": f"demo-{stamp_ms}",
                "item_id": item_id,
                "event_type": "like",
                "device": "web",
                "occurred_at": stamp_ms + number * 1000,
            },
            Kind.VALID,
        )
        for number, item_id in enumerate(demo_user.plays)
    ]
    return FunctionSource(
        "a few likes of one user", 0, len(entries), lambda: iter(()), lambda: iter(entries)
    )


@click.command()
@with_source(1000, 20_000, anomalies=True)
@click.option("--rate", type=FiniteRange(1), default=400.0, help="Interactions a second.")
@click.option(
    "--analytics", is_flag=True, help="Also run the analytics pipeline: OpenSearch, Firehose."
)
@click.option("--keep", is_flag=True, help="Keep everything running at the end.")
def demo(source: Source, rate: float, analytics: bool, keep: bool) -> None:
    """Run the whole stream on this machine, verify it, and show changed recommendations.

    Starts the local platform with empty data, publishes events with anomalies, and reconciles every
    event. Writes reports/demo.json. Exits with 1 if an event is lost, invented or enriched wrongly.

    Example: tunemesh demo --events 100000 --rate 2000
    """
    settings = LocalSettings.from_environment(os.environ)
    try:
        pipelines = PIPELINES if analytics else DEFAULT_PIPELINES
        report = _run(settings, source, pipelines, rate)
    finally:
        if not keep:
            stop_services(settings)
    if keep:
        click.echo(f"still running: web UI {settings.flink.url}; stop with: tunemesh down")
    if report["lost"] or report["invented"] or report["misenriched"] or not report["ok"]:
        raise DemoError(f"verification failed; the ids are in {settings.reports / 'verify.json'}")


def _run(
    settings: LocalSettings, source: Source, pipelines: tuple[str, ...], rate: float
) -> dict[str, Any]:
    began = time.monotonic()
    contracts = load_contracts()
    demo_user = choose_user(source, contracts)
    start_services(settings, application.services_for(pipelines), fresh=True)
    application.prepare(settings, contracts)
    click.echo("topics and schemas exist; submitting the job, publishing users and items")
    submission = run_in_background(lambda: application.submit(settings, pipelines))
    endpoints = local_endpoints(settings)
    first = run_in_background(lambda: first_acceptance(settings, began))
    with terminal.ProgressDisplay() as progress:

        def wait_for_job() -> None:
            progress(Step("waiting for Flink to run the job"))
            submission.result()

        summary = replay(
            source,
            endpoints,
            ReplaySettings(rate=rate),
            progress,
            contracts=contracts,
            before_interactions=wait_for_job,
        )
        destinations = application.destinations_of(pipelines)
        report = verify(
            endpoints,
            summary.run,
            VerifySettings(wait=300, quiet=30, destinations=destinations),
            progress,
        )
        progress(Step("waiting for changed recommendations"))
        first_accepted_s = first.result()
        before = top_items(settings, demo_user.user_id)
        likes = replay(
            likes_of(demo_user, now_ms()),
            endpoints,
            ReplaySettings(rate=20, settle=0),
            contracts=contracts,
        )
        moved = verify(endpoints, likes.run, VerifySettings(wait=60, quiet=30))
        after = top_items(settings, demo_user.user_id)
    # The verification of the likes has overwritten the report of the replay.
    write_report(settings.reports / "verify.json", report.document())
    terminal.show(*report_output(report))
    for line in _recommendation_lines(demo_user, before, after, _titles(source, contracts)):
        click.echo(line)
    document = demo_document(
        summary, report, moved, time.monotonic() - began, first_accepted_s, demo_user, before, after
    )
    file = settings.reports / "demo.json"
    write_report(file, document)
    click.echo(f"first event accepted {first_accepted_s:.1f} s after the start; report: {file}")
    return document


def demo_document(
    summary: ReplaySummary,
    report: VerifyReport,
    moved: VerifyReport,
    seconds: float,
    first_accepted_s: float,
    demo_user: DemoUser,
    before: Sequence[str],
    after: Sequence[str],
) -> dict[str, Any]:
    """Return the demo's report; counts are of the replay, errors also of the likes after it."""
    return {
        **{name: getattr(report, name) for name in REPORTED},
        **{name: getattr(report, name) + getattr(moved, name) for name in ERRORS},
        "duplicates_published": summary.duplicates,
        "users_and_items": summary.dimensions,
        "updates": summary.updates,
        "p50_ms": report.acceptance_p50_ms,
        "p99_ms": report.acceptance_p99_ms,
        "events_per_second": round(summary.events_per_second, 1),
        "first_accepted_s": round(first_accepted_s, 1),
        "seconds": round(seconds, 1),
        "listener": demo_user.user_id,
        "played": list(demo_user.plays),
        "recommended_before": list(before),
        "recommended_after": list(after),
        "destinations": {d.name: d.document() for d in report.destinations},
        "ok": report.ok and moved.ok,
    }


def choose_user(source: Source, contracts: Contracts) -> DemoUser:
    """Choose the most active user, and items of the user who has least in common with them."""
    name = contracts.only(Role.INTERACTION).name
    played: dict[str, Counter[str]] = {}
    for entry in islice(source.stream(), WARM_UP_EVENTS):
        if entry.domain == name and entry.kind is Kind.VALID and entry.record is not None:
            user_id = entry.record.get("user_id")
            if user_id is not None:
                played.setdefault(user_id, Counter())[entry.record["item_id"]] += 1
    if len(played) < 2:
        raise TunemeshError("the source has events of one user only; the demo needs two")
    user_id = max(played, key=lambda user: (played[user].total(), user))
    others = (user for user in played if user != user_id)
    other = max(others, key=lambda user: (len(played[user].keys() - played[user_id].keys()), user))
    fresh = [item for item, _ in played[other].most_common() if item not in played[user_id]]
    return DemoUser(user_id, tuple(fresh[:PLAYS]))


def top_items(settings: LocalSettings, user_id: str, number: int = 5) -> list[str]:
    """Return Personalize's recommendations for a user, the best first."""
    client = boto3.client(
        "personalize-runtime",
        endpoint_url=settings.personalize.url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    answer = client.get_recommendations(campaignArn=CAMPAIGN, userId=user_id, numResults=number)
    return [entry["itemId"] for entry in answer["itemList"]]


def first_acceptance(settings: LocalSettings, began: float, limit_s: float = 300.0) -> float:
    """Return the seconds from ``began`` until Personalize accepted its first event."""
    reader = PersonalizeReader(settings.personalize.url)
    while time.monotonic() - began < limit_s:
        if next(reader.accepted(), None) is not None:
            return time.monotonic() - began
        time.sleep(0.2)
    raise DemoError(f"Personalize has accepted no event within {limit_s:.0f} s")


def _titles(source: Source, contracts: Contracts) -> dict[str, str]:
    items = {contract.name: contract for contract in contracts.with_role(Role.ITEM)}
    titles = {}
    for entry in source.dimensions():
        contract = items.get(entry.domain)
        if contract is None or entry.record is None or entry.kind is Kind.MALFORMED:
            continue
        record = dict.fromkeys(contract.newest.field_names) | dict(entry.record)
        item = project_item(contract, record, origin="")
        titles[record_id(contract, record)] = f"{item['title']} ({item['item_type']})"
    return titles


def _recommendation_lines(
    demo_user: DemoUser, before: Sequence[str], after: Sequence[str], titles: dict[str, str]
) -> list[str]:
    def name(item_id: str) -> str:
        return f"{titles.get(item_id, 'not in the catalogue')} [{item_id}]"

    lines = [f"the user {demo_user.user_id} likes {len(demo_user.plays)} items of another taste:"]
    lines += [f"  {name(item)}" for item in demo_user.plays[:3]] + ["  ..."]
    for title, items in (("recommended before", before), ("recommended after", after)):
        lines.append(f"{title}:")
        lines += [
            f"  {rank}. {name(item)}{'' if item in before else '   (new)'}"
            for rank, item in enumerate(items, 1)
        ]
    return lines
