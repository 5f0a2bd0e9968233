"""`tunemesh export` and `tunemesh catalog`: from the domains' stores to products that are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

from batch.exports.dynamodb import DynamoDbScan
from batch.exports.interactions import export_interactions
from batch.exports.point_in_time import PointInTimeExport
from batch.exports.publication import MAX_REJECTED_SHARE, ExportReport, Limits
from batch.exports.records import RecordSource, export_records
from cli.connections import Mesh, parsed_moment
from connectors.catalog import Catalog, Grant, PiiClass, Product
from connectors.kafka.librdkafka import KafkaOffsets
from connectors.products.columns import columns_of
from connectors.products.location import Location
from connectors.products.manifest import read_manifest
from connectors.stores.dynamodb import table_name
from deploy.handover import wait_archived
from deploy.local.postgresql import connection_string
from deploy.local.settings import BUCKET, DELIVERY_PREFIX
from schemas.errors import TunemeshError
from schemas.model import Contract, Contracts, Role, load_contracts

_Command = TypeVar("_Command", bound=Callable[..., Any])

POSTGRESQL = "TUNEMESH_POSTGRESQL"
DYNAMODB_URL = "TUNEMESH_DYNAMODB_URL"
PROGRESS_ROWS = 100_000


class ExportError(TunemeshError):
    """A domain that cannot be exported as it was asked for."""

    exit_code = 2


def _place_options(command: _Command) -> _Command:
    for option in (
        click.option("--region", metavar="REGION", help="AWS region; without it, the local one."),
        click.option("--endpoint-url", metavar="URL", help="Of AWS, where it is not AWS's own."),
    ):
        command = option(command)
    return command


@click.command("export")
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...")
@click.option("--until", metavar="T", help="Interactions published before T: epoch ms, or ISO.")
@click.option(
    "--most-rejected",
    type=click.FloatRange(0, 1),
    default=MAX_REJECTED_SHARE,
    show_default=True,
    help="Share of the records that may be rejected.",
)
@click.option("--partitions", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option(
    "--postgresql",
    envvar=POSTGRESQL,
    metavar="CONNINFO",
    help=f"Of the users, as libpq has it [{POSTGRESQL}].",
)
@click.option(
    "--dynamodb-url",
    envvar=DYNAMODB_URL,
    metavar="URL",
    help=f"Of the items' tables, where it is not the region's [{DYNAMODB_URL}].",
)
@click.option(
    "--point-in-time",
    metavar="S3",
    help="Files of ExportTableToPointInTime instead of a scan: s3://.../AWSDynamoDB/ID/",
)
@click.option("--archive", metavar="S3", help="What Firehose has written, for interactions.")
@click.option(
    "--kafka",
    metavar="SERVERS",
    help="With --until: wait until all that was published before T is archived.",
)
@_place_options
def export(
    domains: tuple[str, ...],
    until: str | None,
    most_rejected: float,
    partitions: int,
    workers: int,
    postgresql: str | None,
    dynamodb_url: str | None,
    point_in_time: str | None,
    archive: str | None,
    kafka: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> None:
    """Export domains from their stores to their data products on S3.

    A product is published as a whole, or not at all; a product that is in the catalog is moved to
    the new version there.
    """
    mesh = Mesh(region, endpoint_url)
    contracts = load_contracts()
    chosen = [contracts[name] for name in domains]
    moment = None if until is None else parsed_moment("--until", until)
    if kafka is not None and moment is None:
        raise click.UsageError("--kafka waits for what was published before --until T.")
    if point_in_time and len(chosen) > 1:
        raise ExportError("--point-in-time is one table's export: name one domain with it.")
    s3 = mesh.client("s3")
    catalog = mesh.catalog()
    limits = Limits(max_rejected_share=most_rejected)
    for contract in chosen:
        mesh.create_bucket(s3, Location.of(contract))
        progress = _progress(contract.name)
        if contract.role is Role.INTERACTION:
            if kafka is not None and moment is not None:
                wait_archived(KafkaOffsets(kafka, {}), contracts, moment)
            place = archive or f"s3://{BUCKET}/{DELIVERY_PREFIX}"
            report = export_interactions(
                contracts,
                Location.parse(place),
                s3,
                spill=mesh.settings.home / "spill" / contract.name,
                until=moment,
                limits=limits,
                progress=progress,
            )
        else:
            report = export_records(
                contract,
                _source(mesh, s3, contract, partitions, postgresql, dynamodb_url, point_in_time),
                s3,
                workers=workers,
                limits=limits,
                progress=progress,
            )
        click.echo("\n".join(report_lines(report)))
        if any(product.name == contract.name for product in catalog.find()):
            _register(catalog, contract, report.location, s3)


def _source(
    mesh: Mesh,
    s3: Any,
    contract: Contract,
    partitions: int,
    postgresql: str | None,
    dynamodb_url: str | None,
    point_in_time: str | None,
) -> RecordSource:
    if contract.role is Role.ITEM:
        if point_in_time:
            return PointInTimeExport(s3, Location.parse(point_in_time))
        if mesh.local:
            dynamodb_url = dynamodb_url or mesh.settings.dynamodb.url
        return DynamoDbScan(mesh.client("dynamodb", dynamodb_url), table_name(contract), partitions)
    if contract.role is Role.USER:
        # psycopg loads libpq, which the other domains do without.
        from batch.exports.postgresql import PostgresqlSource

        if mesh.local:
            postgresql = postgresql or connection_string(mesh.settings)
        if not postgresql:
            raise ExportError(f"{contract.name}: where is PostgreSQL? --postgresql or {POSTGRESQL}")
        names = [column.name for column in columns_of(contract)]
        return PostgresqlSource(postgresql, contract.name, contract.key, names, partitions)
    raise ExportError(
        f"{contract.name} has the role {contract.role}; users, items and interactions are exported."
    )


def _progress(name: str) -> Callable[[int], None]:
    shown = 0

    def show(rows: int) -> None:
        nonlocal shown
        if rows >= shown + PROGRESS_ROWS:
            shown = rows
            click.echo(f"  {name}: {rows:,} read", err=True)

    return show


def report_lines(report: ExportReport) -> Iterator[str]:
    """What an export has done, for a terminal."""
    manifest = report.manifest
    size = sum(file.bytes for file in manifest.files)
    yield (
        f"{manifest.product} {manifest.version}: {manifest.rows:,} rows in"
        f" {len(manifest.files)} file(s), {size / 1e6:,.1f} MB, at {report.location}"
    )
    rejected = sum(manifest.rejected.values())
    left_out = {
        "deleted": manifest.deleted,
        "duplicates": report.duplicates,
        "published later": report.later,
        "rejected": rejected,
    }
    if any(left_out.values()):
        counts = ", ".join(f"{count:,} {what}" for what, count in left_out.items() if count)
        yield f"  of {report.read:,} records left out: {counts}"
    for reason, count in sorted(manifest.rejected.items()):
        yield f"  rejected, {reason}: {count:,}"
    if manifest.rejected_file is not None:
        key = report.location.version(manifest.version) + manifest.rejected_file
        yield f"  listed in {report.location.url(key)}"


# The catalog


@click.group()
def catalog() -> None:
    """Data products: register, find, describe; who may read which columns."""


@catalog.command("register")
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...")
@_place_options
def catalog_register(
    domains: tuple[str, ...], region: str | None, endpoint_url: str | None
) -> None:
    """Register the current versions of domains' products, and share them."""
    mesh = Mesh(region, endpoint_url)
    contracts: Contracts = load_contracts()
    for contract in [contracts[name] for name in domains]:
        _register(mesh.catalog(), contract, Location.of(contract), mesh.client("s3"))


def _register(catalog: Catalog, contract: Contract, location: Location, s3: Any) -> None:
    registration = catalog.register(contract, read_manifest(s3, location))
    product = registration.product
    done = "registered" if registration.created else "is at"
    click.echo(f"{product.name}: the catalog's {product.table} {done} {product.version}")
    for grant in registration.revoked:
        click.echo(
            f"  {grant.consumer} lost {', '.join(grant.columns)}: the PII class has risen to"
            f" {', '.join(grant.pii)}"
        )


@catalog.command("find")
@click.option("--domain", help="Of this domain.")
@click.option("--role", type=click.Choice([str(role) for role in Role]), help="With this role.")
@click.option("--field", help="With a column of this name.")
@click.option("--tag", help="With this tag.")
@_place_options
def catalog_find(
    domain: str | None,
    role: str | None,
    field: str | None,
    tag: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> None:
    """Find products: all of them, or those that have what the options say."""
    found = Mesh(region, endpoint_url).catalog().find(domain, role, field, tag)
    if not found:
        click.echo("no product has all of that")
        return
    head = ("product", "domain", "role", "rows", "version", "location")
    rows = [
        (one.name, one.domain, one.role, f"{one.rows:,}", one.version, str(one.location))
        for one in found
    ]
    click.echo(_table(head, rows))


@catalog.command("describe")
@click.argument("product")
@_place_options
def catalog_describe(product: str, region: str | None, endpoint_url: str | None) -> None:
    """Show a product: its columns with types and PII classes, and who may read it."""
    catalog = Mesh(region, endpoint_url).catalog()
    found = catalog.describe(product)
    click.echo("\n".join(description(found, catalog.list_grants(product))))


def description(product: Product, grants: Sequence[Grant]) -> Iterator[str]:
    """A product as lines for a terminal."""
    yield f"{product.name}: {product.role} of the domain {product.domain}, owner {product.owner}"
    yield f"  table     {product.table} (account {product.table.catalog})"
    yield f"  location  {product.location}"
    yield f"  version   {product.version}, schema v{product.schema_version}, {product.rows:,} rows"
    if product.tags:
        yield f"  tags      {', '.join(product.tags)}"
    rows = [(column.name, column.type, str(column.pii)) for column in product.columns]
    yield from (f"  {line}" for line in _table(("column", "type", "pii"), rows).splitlines())
    yield from (f"  {grant.consumer} may read {', '.join(grant.columns)}" for grant in grants)


@catalog.command("grant")
@click.argument("product")
@click.argument("consumer")
@click.option("--column", "columns", multiple=True, help="A column; without any, all allowed ones.")
@click.option(
    "--pii",
    multiple=True,
    type=click.Choice([str(one) for one in PiiClass]),
    help="A PII class that the grant includes beyond public and internal.",
)
@_place_options
def catalog_grant(
    product: str,
    consumer: str,
    columns: tuple[str, ...],
    pii: tuple[str, ...],
    region: str | None,
    endpoint_url: str | None,
) -> None:
    """Let a consumer (a role, its ARN, or an account) read columns of a product.

    Just these: what it was granted on the product before is taken back.
    """
    grant = Mesh(region, endpoint_url).catalog().grant(product, consumer, columns or None, pii)
    click.echo(f"{grant.consumer} may read of {grant.product}: {', '.join(grant.columns)}")


@catalog.command("revoke")
@click.argument("product")
@click.argument("consumer")
@_place_options
def catalog_revoke(
    product: str, consumer: str, region: str | None, endpoint_url: str | None
) -> None:
    """Take back all that a consumer may read of a product."""
    grant = Mesh(region, endpoint_url).catalog().revoke(product, consumer)
    click.echo(f"{grant.consumer} may not read {grant.product} any more")


@catalog.command("list")
@click.option("--product", help="Of this product.")
@click.option("--consumer", help="To this consumer.")
@_place_options
def catalog_list(
    product: str | None, consumer: str | None, region: str | None, endpoint_url: str | None
) -> None:
    """List the grants: who may read which columns."""
    grants = Mesh(region, endpoint_url).catalog().list_grants(product, consumer)
    if not grants:
        click.echo("there is no such grant")
        return
    rows = [
        (grant.product, grant.consumer, ", ".join(grant.pii), ", ".join(grant.columns))
        for grant in grants
    ]
    click.echo(_table(("product", "consumer", "pii", "columns"), rows))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
