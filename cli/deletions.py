"""`tunemesh deletions`: erase deleted users from Personalize, and search for what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
from rich.console import RenderableType
from rich.text import Text

from batch.deletions.batches import Batches, merge, merged
from batch.deletions.run import Erasure, describe, find_group, pending, run_deletions
from batch.deletions.users import DeletedUsers, deleted_users
from batch.imports.attempts import Attempts
from batch.imports.calls import LOCAL_PACE, Calls, Pace
from batch.imports.ensure import Ensure
from batch.imports.plan import ImportSettings
from cli import terminal
from cli.connections import Mesh, require_reachable, require_services
from connectors.aws.sdk import sdk_client
from connectors.clock import now_ms
from connectors.files import write_report
from connectors.glue.registry import GlueRegistry
from connectors.products.location import Location
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import ACCOUNT, IMPORT_ROLE, REGION, REGISTRY
from schemas.errors import TunemeshError, counted
from schemas.model import Contracts, Role, load_contracts
from schemas.records import Deletion
from verification import erasure
from verification.destinations import Topics
from verification.endpoints import Endpoints
from verification.personalize_events import PersonalizeReader

REPORT = "deletions.json"


class LeftoversFound(TunemeshError):
    """Something of deleted users is left."""


@dataclass(frozen=True, slots=True)
class Found:
    """The deleted users, and the number of deleted items, which Personalize cannot delete."""

    users: DeletedUsers
    items: int


@click.group()
def deletions() -> None:
    """Deleted users: erase them from Personalize, search for what is left."""


_NAME = click.option("--name", default="tunemesh", help="Name of the dataset group.")
_REGION = click.option("--aws", "region", metavar="REGION", help="Use AWS in REGION.")
_KAFKA = click.option("--kafka", metavar="SERVERS", help="Kafka's bootstrap servers; for --aws.")
_PROPERTIES = click.option(
    "--kafka-properties",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with properties of librdkafka, such as those of security; for --aws.",
)
_REGISTRY = click.option("--registry", default=REGISTRY, help="Name of the Glue registry.")


@deletions.command("list", short_help="Show who is to be erased, and the batches so far.")
@_NAME
@_REGION
@_KAFKA
@_PROPERTIES
@_REGISTRY
def deletions_list(
    name: str,
    region: str | None,
    kafka: str | None,
    kafka_properties: Path | None,
    registry: str,
) -> None:
    """Show how many deleted users are to be erased from a dataset group, and the batches so far.

    Example: tunemesh deletions list --name tunemesh
    """
    mesh, contracts = Mesh(region, None), load_contracts()
    batches = _batches(mesh, contracts)
    known = list(batches.list(name))
    endpoints = _endpoints(mesh, kafka, _properties(kafka_properties), registry)
    found = read_deletions(mesh, contracts, merged(known), endpoints)
    waiting = pending(found.users, merged(known))
    terminal.show(
        f"to be erased: {counted(len(waiting), 'user')}",
        f"there again, not erased: {counted(len(found.users.restored), 'user')}",
        f"deleted items, which Personalize has no call for: {found.items:,}",
    )
    if known:
        rows = [
            (
                batch.name,
                f"{len(batch.deletions):,}",
                "unfinished" if batch.result is None else "complete",
                "" if batch.result is None else f"{batch.result['deleted']:,}",
            )
            for batch in known
        ]
        header = ("batch", "users", "job", "deleted records")
        terminal.show(terminal.table(header, rows, numbers=("users", "deleted records")))


@deletions.command("run", short_help="Erase deleted users from Personalize.")
@_NAME
@click.option("--again", is_flag=True, help="Also users that were erased before.")
@click.option("--train", is_flag=True, help="Train and deploy a model without them.")
@click.option("--role", metavar="ARN", help="Role with which Personalize reads S3; for --aws.")
@_REGION
@_KAFKA
@_PROPERTIES
@_REGISTRY
def deletions_run(
    name: str,
    again: bool,
    train: bool,
    role: str | None,
    region: str | None,
    kafka: str | None,
    kafka_properties: Path | None,
    registry: str,
) -> None:
    """Erase deleted users from a dataset group of Personalize, by data deletion jobs.

    Deleted are the users of the topic deletions, and those that the data product of users left out.
    A job takes up to a day. An interrupted run continues when it is run again.

    \b
    Examples:
      tunemesh deletions run
      tunemesh deletions run --aws eu-west-1 --role arn:aws:iam::123456789012:role/personalize \\
        --kafka b-1:9096 --kafka-properties kafka.json
    """
    if region is not None and role is None:
        raise click.UsageError("--aws needs --role, with which Personalize reads the bucket.")
    settings = ImportSettings(role_arn=role or IMPORT_ROLE, name=name)
    properties = _properties(kafka_properties)
    mesh, contracts = Mesh(region, None), load_contracts()
    calls = _personalize(mesh)
    batches = _batches(mesh, contracts)
    endpoints = _endpoints(mesh, kafka, properties, registry)
    before = merged(batches.list(name))
    found = read_deletions(mesh, contracts, before, endpoints)
    with terminal.waiting_for("Amazon Personalize"):
        erased = run_deletions(
            calls,
            settings,
            batches,
            found.users,
            again=again,
            now_ms=now_ms,
            progress=click.echo,
        )
        campaign = _train(calls, settings, erased) if train and erased.batches else None
    file = mesh.settings.reports / REPORT
    write_report(file, report_of(erased, found, campaign))
    for line in summary(erased, found, campaign):
        click.echo(line)


def read_deletions(
    mesh: Mesh,
    contracts: Contracts,
    before: Mapping[str, int],
    endpoints: Endpoints | None,
) -> Found:
    """Return who is deleted: by the topic, by earlier batches, by the data product of users."""
    deleted = dict(before)
    items: set[str] = set()
    contract = contracts.only(Role.DELETION)
    if endpoints is not None:
        registry = GlueRegistry.connect(
            mesh.region, endpoints.registry_endpoint, endpoints.registry_name
        )
        for _, record in Topics(endpoints, contracts, registry).records(contract):
            deletion = cast("Deletion | None", record)
            if deletion is None:
                continue
            if deletion["dataset"] == "users":
                merge(deleted, {deletion["id"]: deletion["deleted_at"]})
            else:
                items.add(deletion["id"])
    users = deleted_users(mesh.client("s3"), contracts, deleted, now_ms())
    return Found(users, len(items))


def report_of(erased: Erasure, found: Found, campaign: str | None) -> dict[str, Any]:
    """Return the report; it has no user ids."""
    return {
        "batches": [describe(batch) for batch in erased.batches],
        "restored": len(found.users.restored),
        "unlistable": erased.unlistable,
        "items": found.items,
        "campaign": campaign,
    }


def summary(erased: Erasure, found: Found, campaign: str | None) -> Iterator[str]:
    """Yield what was done, and what is left to do."""
    for batch in erased.batches:
        result = batch.result or {}
        yield (
            f"batch {batch.name}: {counted(len(batch.deletions), 'user')} erased,"
            f" {result.get('deleted', 0):,} records, {result.get('job')}"
        )
    if not erased.batches:
        yield "nothing to erase: every deleted user was erased before; --again erases them again"
    if found.users.restored:
        yield f"{counted(len(found.users.restored), 'user')} there again: not erased"
    if erased.unlistable:
        yield (
            f"{counted(erased.unlistable, 'id')} left out: a reserved word, or with a line break,"
            " which Personalize stores under no id"
        )
    if campaign is not None:
        yield f"trained without them: {campaign}"
    elif erased.batches:
        yield "next: train a model without them (--train), tunemesh deletions verify"


@deletions.command("verify", short_help="Search for what is left of erased users.")
@_NAME
def deletions_verify(name: str) -> None:
    """Search the local platform for what is left of erased users.

    In Personalize: users, events, imports, recommendations. In the current data products of users
    and interactions. On the topic of users. Exits with 1 if something is left.

    Example: tunemesh deletions verify
    """
    mesh, contracts = Mesh(None, None), load_contracts()
    calls = _personalize(mesh)
    find_group(calls, name)
    require_services(mesh.settings, "kafka")
    known = merged(batch for batch in _batches(mesh, contracts).list(name) if batch.result)
    if not known:
        click.echo("no user was erased yet: tunemesh deletions run")
        return
    leftovers = list(search(mesh, contracts, name, set(known)))
    terminal.show(*leftover_lines(leftovers, len(known)))
    if any(not leftover.pending for leftover in leftovers):
        raise click.exceptions.Exit(1)


def search(
    mesh: Mesh, contracts: Contracts, name: str, users: set[str]
) -> Iterator[erasure.Leftover]:
    """Yield what is left of users on the local platform; users who are there again are left out."""
    endpoints = local_endpoints(mesh.settings)
    registry = GlueRegistry.connect(REGION, endpoints.registry_endpoint, REGISTRY)
    topics = Topics(endpoints, contracts, registry)
    contract = contracts.only(Role.USER)
    newest = erasure.read_newest(topics, contract, users)
    gone = users - erasure.restored(newest, contract)
    yield from erasure.on_topic(newest, contract)
    yield from erasure.in_products(mesh.client("s3"), contracts, gone)
    yield from erasure.in_personalize(PersonalizeReader(mesh.settings.personalize.url, name), gone)
    runtime = sdk_client("personalize-runtime", REGION, mesh.settings.personalize.url)
    campaigns = _personalize(mesh).pages("list_campaigns", "campaigns")
    if any(campaign["name"] == name for campaign in campaigns):
        arn = f"arn:aws:personalize:{REGION}:{ACCOUNT}:campaign/{name}"
        yield from erasure.in_recommendations(runtime, arn, gone)


def leftover_lines(leftovers: list[erasure.Leftover], users: int) -> Iterator[RenderableType]:
    """Yield the result of a search for the terminal."""
    if leftovers:
        rows = [(entry.where, f"{entry.count:,}", entry.first, entry.advice) for entry in leftovers]
        header = ("left over", "records", "first", "what to do")
        yield terminal.table(header, rows, numbers=("records",))
    if any(not entry.pending for entry in leftovers):
        yield Text(f"something of {counted(users, 'erased user')} is left", style="bold red")
    else:
        yield Text(f"nothing of {counted(users, 'erased user')} is left", style="bold green")


def _batches(mesh: Mesh, contracts: Contracts) -> Batches:
    s3, contract = mesh.client("s3"), contracts.only(Role.DELETION)
    mesh.create_bucket(s3, Location.of(contract))
    return Batches.of(s3, contract)


def _personalize(mesh: Mesh) -> Calls:
    endpoint_url = None
    if mesh.local:
        require_services(mesh.settings, "personalize")
        endpoint_url = mesh.settings.personalize.url
    client = sdk_client("personalize", mesh.region, endpoint_url)
    return Calls(client, LOCAL_PACE if mesh.local else Pace())


def _properties(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        properties = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in properties.items()}
    except (OSError, ValueError, AttributeError):
        # Without the text: it may have a password.
        raise click.UsageError(f"--kafka-properties: {file} is not a JSON object.") from None


def _endpoints(
    mesh: Mesh, kafka: str | None, properties: Mapping[str, str], registry: str
) -> Endpoints | None:
    """Return where the topic is; None without Kafka, on AWS."""
    if mesh.local:
        require_services(mesh.settings, "kafka")
        return local_endpoints(mesh.settings)
    if kafka is None:
        click.echo("the topic deletions is not read: no --kafka")
        return None
    require_reachable("kafka", kafka, "Check --kafka.")
    return Endpoints(
        bootstrap_servers=kafka,
        home=mesh.settings.home,
        region=mesh.region,
        registry_name=registry,
        bucket="",
        delivery_prefix="",
        kafka_client=tuple(sorted(properties.items())),
    )


def _train(calls: Calls, settings: ImportSettings, erased: Erasure) -> str:
    """Train and deploy a model after the jobs; returns the campaign."""
    ensure, attempts = Ensure(calls, click.echo), Attempts(calls, click.echo)
    group = find_group(calls, settings.name)
    jobs = [str((batch.result or {})["job"]) for batch in erased.batches]
    solution = ensure.solution(group, settings.name, settings.recipe_arn)
    version = attempts.solution_version(settings, solution, jobs)
    return ensure.campaign(settings.name, solution, version)
