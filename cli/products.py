"""`tunemesh export` and `tunemesh catalog`: data products, from the stores to the grants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.console import RenderableType

from batch.deletions.users import read_deleted_users
from batch.exports.dynamodb import DynamoDbScan
from batch.exports.interactions import export_interactions
from batch.exports.point_in_time import PointInTimeExport
from batch.exports.publication import MAX_REJECTED_SHARE, ExportReport, Limits
from batch.exports.records import RecordSource, export_records
from cli import terminal
from cli.connections import Mesh, require_reachable, require_services, with_mesh
from cli.parameters import PAST_TIME, PRODUCT, S3_LOCATION, FiniteRange
from connectors.catalog.catalog import Catalog, Grant
from connectors.catalog.pii import PiiClass
from connectors.catalog.tables import Product
from connectors.kafka.librdkafka import LOGGER, KafkaOffsets
from connectors.products.columns import columns_of
from connectors.products.location import Location
from connectors.products.manifest import read_manifest
from connectors.stores.dynamodb import table_name
from deploy.handover import wait_archived
from deploy.local.flink import FlinkError, FlinkRest
from deploy.local.postgresql import connection_string
from deploy.local.settings import BUCKET, DELIVERY_PREFIX, LocalSettings
from jobs.settings import pipelines_of_job
from schemas.errors import TunemeshError, counted
from schemas.model import Contract, Role, load_contracts
from verification.progress import Step

POSTGRESQL = "TUNEMESH_POSTGRESQL"
DYNAMODB_URL = "TUNEMESH_DYNAMODB_URL"

ARCHIVING = ("enrichment", "analytics")
"""The pipelines that bring interactions to the objects of Firehose."""


class ExportError(TunemeshError):
    """A domain cannot be exported with these options."""

    exit_code = 2


@click.command("export")
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...", type=PRODUCT)
@click.option(
    "--until",
    type=PAST_TIME,
    help="Only interactions published before T (epoch ms, or ISO 8601; not in the future).",
)
@click.option(
    "--most-rejected",
    type=FiniteRange(0, 1),
    default=MAX_REJECTED_SHARE,
    help="Maximum share of rejected records.",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1000),
    default=8,
    help="Partitions that a store is read in.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=4,
    help="Partitions that are read at the same time.",
)
@click.option(
    "--postgresql",
    envvar=POSTGRESQL,
    metavar="CONNINFO",
    help=f"Users' database, as libpq accepts it [{POSTGRESQL}].",
)
@click.option(
    "--dynamodb-url",
    envvar=DYNAMODB_URL,
    metavar="URL",
    help=f"Endpoint of the items' tables, if not the region's [{DYNAMODB_URL}].",
)
@click.option(
    "--point-in-time",
    type=S3_LOCATION,
    help="Read a DynamoDB export to S3 instead of the table: s3://.../AWSDynamoDB/ID/",
)
@click.option("--archive", type=S3_LOCATION, help="Objects of Firehose, for interactions.")
@click.option(
    "--kafka",
    metavar="SERVERS",
    help="With --until: wait until everything published before T is archived.",
)
@with_mesh
def export(
    mesh: Mesh,
    domains: tuple[Contract, ...],
    until: int | None,
    most_rejected: float,
    partitions: int,
    workers: int,
    postgresql: str | None,
    dynamodb_url: str | None,
    point_in_time: Location | None,
    archive: Location | None,
    kafka: str | None,
) -> None:
    """Export domains from their stores to their data products on S3.

    A product is published completely or not at all. If it is in the catalog, the catalog's version
    is updated.

    \b
    Examples:
      tunemesh export users songs podcasts
      tunemesh export interactions --until 2026-11-23T14:25:00Z
    """
    contracts = load_contracts()
    if kafka is not None and until is None:
        raise click.UsageError("--kafka waits for records published before --until T.")
    if point_in_time and [contract.role for contract in domains] != [Role.ITEM]:
        raise click.UsageError("--point-in-time has the items of one table: name its domain alone.")
    if kafka is not None and Role.INTERACTION in [contract.role for contract in domains]:
        require_reachable("kafka", kafka, "Check --kafka.")
        if mesh.local and kafka == mesh.settings.kafka.address:
            require_archiving(mesh.settings)
    s3 = mesh.client("s3")
    catalog = mesh.catalog()
    limits = Limits(max_rejected_share=most_rejected)
    # Users first: their product says whose interactions are left out.
    for contract in sorted(domains, key=lambda contract: contract.role is not Role.USER):
        mesh.create_bucket(s3, Location.of(contract))
        with terminal.ProgressDisplay() as display:

            def show_read(records: int, name: str = contract.name) -> None:
                display(Step(f"{name}: records read", records))

            if contract.role is Role.INTERACTION:
                if kafka is not None and until is not None:
                    offsets = KafkaOffsets(kafka, {"logger": LOGGER})
                    wait_archived(offsets, contracts, until, progress=display)
                report = export_interactions(
                    contracts,
                    archive or Location(BUCKET, DELIVERY_PREFIX),
                    s3,
                    spill=mesh.settings.home / "spill" / contract.name,
                    until=until,
                    deleted=read_deleted_users(s3, contracts),
                    limits=limits,
                    progress=show_read,
                )
            else:
                source = _source(
                    mesh, s3, contract, partitions, postgresql, dynamodb_url, point_in_time
                )
                report = export_records(
                    contract, source, s3, workers=workers, limits=limits, progress=show_read
                )
        click.echo("\n".join(report_lines(report)))
        if not report.manifest.rows:
            click.echo(f"warning: {empty_reason(contract, report)}", err=True)
        if any(product.name == contract.name for product in catalog.find()):
            _register(catalog, contract, report.location, s3)


def _source(
    mesh: Mesh,
    s3: Any,
    contract: Contract,
    partitions: int,
    postgresql: str | None,
    dynamodb_url: str | None,
    point_in_time: Location | None,
) -> RecordSource:
    if contract.role is Role.ITEM:
        if point_in_time:
            return PointInTimeExport(s3, point_in_time)
        if mesh.local:
            dynamodb_url = dynamodb_url or mesh.settings.dynamodb.url
        return DynamoDbScan(mesh.client("dynamodb", dynamodb_url), table_name(contract), partitions)
    # Imports libpq, which the other domains do not need.
    from batch.exports.postgresql import PostgresqlSource

    if mesh.local and not postgresql:
        require_services(mesh.settings, "postgresql")
        postgresql = connection_string(mesh.settings)
    if not postgresql:
        raise ExportError(
            f"{contract.name}: the database is unknown; set --postgresql or {POSTGRESQL}"
        )
    names = [column.name for column in columns_of(contract)]
    return PostgresqlSource(postgresql, contract.name, contract.key, names, partitions)


def require_archiving(settings: LocalSettings) -> None:
    """Raise ExportError if Flink runs without the pipelines that archive interactions.

    Without Flink an application may run in a process of its own.
    """
    try:
        jobs = FlinkRest.of(settings).running_jobs()
    except FlinkError:
        return
    running = {pipeline for job in jobs for pipeline in pipelines_of_job(job.name)}
    if missing := [name for name in ARCHIVING if name not in running]:
        raise ExportError(
            f"no job runs the pipeline {' and '.join(missing)}, so nothing is archived to wait for."
            f" Start it: tunemesh submit --pipelines {','.join(missing)}"
        )


def empty_reason(contract: Contract, report: ExportReport) -> str:
    """Return why a product may have no rows."""
    name = contract.name
    if report.read:
        return f"the product {name} is empty: none of {counted(report.read, 'record')} is in it"
    if contract.role is Role.INTERACTION:
        return (
            f"the product {name} is empty: nothing is archived. An application with the pipelines"
            f" {' and '.join(ARCHIVING)} archives interactions: tunemesh submit --pipelines"
            f" {','.join(ARCHIVING)}"
        )
    return f"the product {name} is empty: its store has no records"


def report_lines(report: ExportReport) -> Iterator[str]:
    """Yield the lines of an export's summary."""
    manifest = report.manifest
    size = sum(file.bytes for file in manifest.files)
    yield (
        f"{manifest.product} {manifest.version}: {counted(manifest.rows, 'row')} in"
        f" {counted(len(manifest.files), 'file')}, {size / 1e6:,.1f} MB, at {report.location}"
    )
    rejected = sum(manifest.rejected.values())
    left_out = {
        "deleted": manifest.deleted - report.erased,
        "of deleted users": report.erased,
        "duplicates": report.duplicates,
        "published later": report.later,
        "rejected": rejected,
    }
    if any(left_out.values()):
        counts = ", ".join(f"{count:,} {what}" for what, count in left_out.items() if count)
        yield f"  left out of {report.read:,} records: {counts}"
    for reason, count in sorted(manifest.rejected.items()):
        yield f"  rejected, {reason}: {count:,}"
    if manifest.rejected_file is not None:
        key = report.location.version(manifest.version) + manifest.rejected_file
        yield f"  listed in {report.location.url(key)}"


@click.group()
def catalog() -> None:
    """Data products: register, find and describe them; grant and revoke columns."""


@catalog.command("register", short_help="Register and share the current versions of products.")
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...", type=PRODUCT)
@with_mesh
def catalog_register(mesh: Mesh, domains: tuple[Contract, ...]) -> None:
    """Register the current versions of domains' products, and share them.

    Example: tunemesh catalog register users songs podcasts
    """
    for contract in domains:
        _register(mesh.catalog(), contract, Location.of(contract), mesh.client("s3"))


def _register(catalog: Catalog, contract: Contract, location: Location, s3: Any) -> None:
    registration = catalog.register(contract, read_manifest(s3, location))
    product = registration.product
    done = "registered" if registration.created else "updated to"
    click.echo(f"{product.name}: {product.table} {done} {product.version}")
    for grant in registration.revoked:
        click.echo(
            f"  revoked from {grant.consumer}: {', '.join(grant.columns)}; the PII class is now"
            f" {', '.join(grant.pii)}"
        )


@catalog.command("find")
@click.option("--domain", help="Only of this domain.")
@click.option(
    "--role", type=click.Choice([str(role) for role in Role]), help="Only with this role."
)
@click.option("--field", help="Only with a column of this name.")
@click.option("--tag", help="Only with this tag.")
@with_mesh
def catalog_find(
    mesh: Mesh, domain: str | None, role: str | None, field: str | None, tag: str | None
) -> None:
    """List the products, or those that match every option.

    Example: tunemesh catalog find --role item --field genres
    """
    products = mesh.catalog().find(domain, role, field, tag)
    if not products:
        click.echo("no product matches")
        return
    header = ("product", "domain", "role", "rows", "version", "location")
    rows = [(p.name, p.domain, p.role, f"{p.rows:,}", p.version, str(p.location)) for p in products]
    terminal.show(terminal.table(header, rows, numbers=("rows",)))


@catalog.command("describe", short_help="Show a product: columns, PII classes and grants.")
@click.argument("product")
@with_mesh
def catalog_describe(mesh: Mesh, product: str) -> None:
    """Show a product: its columns with types and PII classes, and its grants.

    Example: tunemesh catalog describe songs
    """
    catalog = mesh.catalog()
    terminal.show(*describe(catalog.describe(product), catalog.list_grants(product)))


def describe(product: Product, grants: Sequence[Grant]) -> Iterator[RenderableType]:
    """Yield the description of a product for the terminal."""
    yield f"{product.name}: {product.role} of the domain {product.domain}, owner {product.owner}"
    yield f"  table     {product.table} (account {product.table.catalog})"
    yield f"  location  {product.location}"
    yield f"  version   {product.version}, schema v{product.schema_version}, {product.rows:,} rows"
    if product.tags:
        yield f"  tags      {', '.join(product.tags)}"
    rows = [(column.name, column.type, str(column.pii)) for column in product.columns]
    yield terminal.table(("column", "type", "pii"), rows)
    yield from (f"  {grant.consumer} may read {', '.join(grant.columns)}" for grant in grants)


@catalog.command("grant", short_help="Let a consumer read columns of a product.")
@click.argument("product")
@click.argument("consumer")
@click.option(
    "--column", "columns", multiple=True, help="A column; by default all allowed ones. Repeatable."
)
@click.option(
    "--pii",
    multiple=True,
    type=click.Choice([str(one) for one in PiiClass]),
    help="A PII class to include beside public and internal. Repeatable.",
)
@with_mesh
def catalog_grant(
    mesh: Mesh, product: str, consumer: str, columns: tuple[str, ...], pii: tuple[str, ...]
) -> None:
    """Let a consumer (a role, its ARN, or an account) read columns of a product.

    This replaces the consumer's earlier grant on the product.

    \b
    Example:
      tunemesh catalog grant songs recommender --column song_id --column genres
    """
    grant = mesh.catalog().grant(product, consumer, columns or None, pii)
    click.echo(f"{grant.consumer} may read of {grant.product}: {', '.join(grant.columns)}")


@catalog.command("revoke")
@click.argument("product")
@click.argument("consumer")
@with_mesh
def catalog_revoke(mesh: Mesh, product: str, consumer: str) -> None:
    """Revoke a consumer's grant on a product.

    Example: tunemesh catalog revoke songs recommender
    """
    grant = mesh.catalog().revoke(product, consumer)
    click.echo(f"{grant.consumer} may no longer read {grant.product}")


@catalog.command("list")
@click.option("--product", help="Only of this product.")
@click.option("--consumer", help="Only of this consumer.")
@with_mesh
def catalog_list(mesh: Mesh, product: str | None, consumer: str | None) -> None:
    """List the grants: which consumer may read which columns.

    Example: tunemesh catalog list --consumer recommender
    """
    grants = mesh.catalog().list_grants(product, consumer)
    if not grants:
        click.echo("no grant matches")
        return
    rows = [
        (grant.product, grant.consumer, ", ".join(grant.pii), ", ".join(grant.columns))
        for grant in grants
    ]
    terminal.show(terminal.table(("product", "consumer", "pii", "columns"), rows))
