"""`tunemesh bootstrap`: from data products to a trained campaign.

The products are opened through the catalog, a job converts them to import files, and Personalize
imports these. Each stage reuses the results of an earlier attempt, so an interrupted bootstrap is
continued by running it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from batch.bootstrap.products import required_columns
from batch.bootstrap.report import MIN_ACTIVE_USERS, MIN_INTERACTIONS
from batch.bootstrap.settings import Window
from batch.deletions.users import DeletedUsers, read_deleted_users
from batch.imports.calls import LOCAL_PACE, Calls, Pace
from batch.imports.errors import ImportsError
from batch.imports.output import BootstrapOutput, read_output
from batch.imports.plan import DatasetSchemas, ImportSettings, Mode
from batch.imports.run import Imported, run_imports
from batch.personalize_schemas import interactions_schema, items_schema, users_schema
from cli.connections import Mesh, require_services
from cli.local import fetch_jars
from cli.parameters import PAST_TIME
from cli.terminal import show, table, waiting_for
from connectors.aws.sdk import sdk_client
from connectors.catalog.catalog import Catalog, OpenedProduct
from connectors.catalog.errors import CatalogError
from connectors.catalog.pii import PiiClass, grant_command
from connectors.files import write_report
from connectors.products.location import Location
from connectors.products.manifest import ProductError
from deploy.local import bootstrap as local_bootstrap
from deploy.local.settings import BUCKET, IMPORT_ROLE
from schemas.errors import counted
from schemas.model import Contract, Contracts, Role, load_contracts

CONSUMER = "recommender"
REPORT = "imports.json"
OUTPUT = Location(BUCKET, "bootstrap/")
"""Folder of the runs on the local platform."""

MINIMUMS = (
    f"A training needs {MIN_INTERACTIONS:,} interactions, and {MIN_ACTIVE_USERS} users with two or"
    " more each."
)


@dataclass(frozen=True, slots=True)
class Products:
    """The opened products by contract, and the window of interactions of a run."""

    opened: Mapping[str, OpenedProduct]
    window: Window
    datasets_since: int
    """Start of the first export of users or items, epoch ms: later changes come from the stream."""

    @property
    def run(self) -> str:
        """A name computed from the input: the same input is the same run."""
        source = {
            "products": {
                name: [str(product.location), product.manifest.version, *product.columns]
                for name, product in sorted(self.opened.items())
            },
            "window": [self.window.since, self.window.until],
        }
        return hashlib.sha256(json.dumps(source).encode()).hexdigest()[:12]

    def request(self) -> local_bootstrap.Request:
        """Return the request for the job: manifests, and the granted columns."""
        return local_bootstrap.Request(
            output=str(OUTPUT),
            run=self.run,
            products={
                name: product.location.url(product.location.manifest(product.manifest.version))
                for name, product in self.opened.items()
            },
            window=self.window,
            columns={name: product.columns for name, product in self.opened.items()},
        )


def open_products(
    catalog: Catalog, contracts: Contracts, consumer: str, since: int | None, until: int | None
) -> Products:
    """Open every product of users, items and interactions for the consumer.

    Raises CatalogError with all that is missing or not granted, and ImportsError if the
    interactions end before ``until`` or are too few.
    """
    roles = (Role.USER, Role.ITEM, Role.INTERACTION)
    needed: list[Contract] = [c for role in roles for c in contracts.with_role(role)]
    opened: dict[str, OpenedProduct] = {}
    problems = []
    for contract in needed:
        try:
            product = catalog.open_product(contract.name, consumer)
        except (CatalogError, ProductError) as error:
            problems.append(str(error))
            continue
        opened[contract.name] = product
        if lacking := sorted(required_columns(contract) - set(product.columns)):
            classes = [PiiClass(contract.pii_class(name)) for name in lacking]
            problems.append(
                f"{consumer} may not read {', '.join(lacking)} of the product {contract.name},"
                f" without which nothing is imported. Ask its owner, {contract.owner}, for:"
                f" {grant_command(contract.name, consumer, classes)}"
            )
    if problems:
        raise CatalogError("\n".join(problems))
    interactions = opened[contracts.only(Role.INTERACTION).name].manifest
    end = interactions.until if until is None else until
    covered = interactions.created_at if interactions.until is None else interactions.until
    if end is not None and end > covered:
        raise ImportsError(
            f"the product {interactions.product} ends at {covered}, before {end}. Export it again:"
            f" tunemesh export {interactions.product} --until {end}"
        )
    if since is None and interactions.rows < MIN_INTERACTIONS:
        raise ImportsError(
            f"the product {interactions.product} has {counted(interactions.rows, 'row')}."
            f" {MINIMUMS}"
        )
    export_starts = [
        opened[contract.name].manifest.created_at
        for role in (Role.USER, Role.ITEM)
        for contract in contracts.with_role(role)
    ]
    return Products(opened, Window(since, end), min(export_starts))


def left_out(catalog: Catalog, contracts: Contracts) -> Iterator[str]:
    """Yield a line for each product of the catalog whose domain has no contract here."""
    roles = (Role.USER, Role.ITEM, Role.INTERACTION)
    for product in catalog.find():
        if product.name not in contracts.by_name and product.role in roles:
            yield (
                f"{product.name} is left out: the catalog has it, but no contract here. Set"
                " TUNEMESH_CONTRACTS to the folder of its contract to include it"
            )


def check_deletions(products: Products, contracts: Contracts, deleted: DeletedUsers) -> None:
    """Raise ImportsError for a product that may have data of deleted users."""
    users = products.opened[contracts.only(Role.USER).name].manifest
    interactions = products.opened[contracts.only(Role.INTERACTION).name].manifest
    is_stale = deleted.known_at > interactions.created_at
    stale = [users.product] * bool(deleted.since_export) + [interactions.product] * is_stale
    if stale:
        raise ImportsError(
            f"{' and '.join(stale)}: exported before it was known that users are deleted, whose"
            f" data may be in there. Export again: tunemesh export {' '.join(stale)}"
        )


def personalize_schemas(contracts: Contracts) -> DatasetSchemas:
    """Return the schemas of the import files."""
    return DatasetSchemas(
        *(json.dumps(make(contracts)) for make in (users_schema, items_schema, interactions_schema))
    )


def read_schemas(folder: Path) -> DatasetSchemas:
    """Read the three schemas in `folder`; raises ImportsError."""
    texts = []
    for name in ("users", "items", "interactions"):
        file = folder / f"{name}.json"
        try:
            texts.append(file.read_text(encoding="utf-8"))
            json.loads(texts[-1])
        except OSError as error:
            raise ImportsError(f"cannot read the schema {file}: {error.strerror}") from error
        except ValueError as error:
            raise ImportsError(f"the schema {file} is not JSON: {error}") from error
    return DatasetSchemas(*texts)


def run_job(mesh: Mesh, products: Products) -> str:
    """Run the job in a process on this machine and return the location of its output.

    Raises ImportsError if the output is too small to train with.
    """
    fetch_jars(["flink", "parquet", "s3"])
    mesh.create_bucket(mesh.client("s3"), OUTPUT)
    request = products.request()
    click.echo(f"job {request.run}: {', '.join(products.opened)} -> {request.folder}")
    with waiting_for("the bootstrap job"):
        report = local_bootstrap.run_in_process(mesh.settings, request)
    for dataset in ("users", "items", "interactions"):
        counts = ", ".join(f"{count:,} {name}" for name, count in report[dataset].items())
        click.echo(f"  {dataset:<12} {counts}")
    click.echo("".join(f"{line}\n" for line in rejected_lines(request, report)), nl=False)
    if not report["trainable"]:
        raise ImportsError(
            f"{request.folder} is not imported, it is too small to train with: "
            + "; ".join(report["problems"])
        )
    return f"{request.folder}/"


def rejected_lines(request: local_bootstrap.Request, report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the rejected rows by product and reason, and the location of their list."""
    rejected: dict[str, list[str]] = {}
    for entry in report["rejected"]:
        reasons = rejected.setdefault(entry["product"], [])
        reasons.append(f"{entry['count']:,} {entry['reason']}")
    for product, reasons in rejected.items():
        yield f"  rejected of {product}: {', '.join(reasons)}"
    if rejected:
        yield f"  listed in {request.folder}/rejected/"


def import_output(
    mesh: Mesh,
    output: BootstrapOutput,
    schemas: DatasetSchemas,
    chosen: ImportSettings,
) -> Imported:
    """Import a job's output and train a campaign; raises ImportsError."""
    endpoint_url = None
    if mesh.local:
        require_services(mesh.settings, "personalize")
        endpoint_url = mesh.settings.personalize.url
    personalize = sdk_client("personalize", mesh.region, endpoint_url)
    pace = LOCAL_PACE if mesh.local else Pace()
    return run_imports(Calls(personalize, pace), chosen, schemas, output, click.echo)


def stream_settings(products: Products) -> dict[str, str]:
    """Return the properties of tunemesh.recommendations for a stream that continues the import."""
    until = products.window.until
    return {
        "datasets.start": str(products.datasets_since),
        **({} if until is None else {"imported.until": str(until)}),
    }


@click.command()
@click.option(
    "--full/--incremental",
    "full",
    default=True,
    help="Replace the datasets, or add to them.",
)
@click.option("--since", type=PAST_TIME, help="Only interactions published at T or later.")
@click.option("--until", type=PAST_TIME, help="Only interactions published before T.")
@click.option("--consumer", default=CONSUMER, help="Consumer with the grants.")
@click.option(
    "--from", "location", metavar="S3", help="Import an existing output, s3://BUCKET/RUN/."
)
@click.option(
    "--schemas",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with users.json, items.json and interactions.json; by default this version's.",
)
@click.option("--name", default="tunemesh", help="Name of the dataset group.")
@click.option("--aws", "region", metavar="REGION", help="Use Amazon Personalize in REGION.")
@click.option(
    "--role", metavar="ARN", help="Role with which Personalize reads the bucket; for --aws."
)
def bootstrap(
    full: bool,
    since: int | None,
    until: int | None,
    consumer: str,
    location: str | None,
    folder: Path | None,
    name: str,
    region: str | None,
    role: str | None,
) -> None:
    """Import data products into Personalize, and train a campaign.

    A training needs 1,000 interactions, and 25 users with two or more each.

    T is epoch ms or ISO 8601, and not in the future. An interrupted bootstrap continues when it is
    run again.

    \b
    Examples:
      tunemesh bootstrap --until 2026-11-23T14:25:00Z
      tunemesh bootstrap --aws eu-west-1 --role arn:aws:iam::123456789012:role/personalize \\
        --from s3://my-bucket/bootstrap/0123456789ab/
    """
    mode = Mode.FULL if full else Mode.INCREMENTAL
    if region is not None and (role is None or location is None):
        raise click.UsageError(
            "--aws needs --role, with which Personalize reads the bucket, and --from: the job runs"
            " on Managed Flink."
        )
    if location is not None and (since, until) != (None, None):
        raise click.UsageError("--since and --until are options of the job; --from has its output.")
    if mode is Mode.INCREMENTAL and location is None and since is None:
        raise click.UsageError(
            "--incremental needs --since: without it, interactions of an earlier bootstrap would"
            " be imported again, and count twice."
        )
    if since is not None and until is not None and since >= until:
        raise click.UsageError(f"--since {since} is not before --until {until}.")
    mesh = Mesh(region, None)
    contracts = load_contracts()
    chosen = ImportSettings(role_arn=role or IMPORT_ROLE, name=name, mode=mode)
    schemas = personalize_schemas(contracts) if folder is None else read_schemas(folder)
    products = None
    if location is None:
        catalog = mesh.catalog()
        for line in left_out(catalog, contracts):
            click.echo(line, err=True)
        products = open_products(catalog, contracts, consumer, since, until)
        check_deletions(products, contracts, read_deleted_users(mesh.client("s3"), contracts))
        location = run_job(mesh, products)
    output = read_output(mesh.client("s3"), location, chosen.mode)
    with waiting_for("Amazon Personalize"):
        imported = import_output(mesh, output, schemas, chosen)
    file = mesh.settings.reports / REPORT
    write_report(file, report_of(output, imported, products))
    rows = [
        ("campaign", imported.campaign),
        ("tracking id", imported.tracking_id),
        ("report", str(file)),
    ]
    show(table(("", ""), rows, show_header=False))
    if products is not None:
        click.echo("properties with which the stream continues from here:")
        for key, value in stream_settings(products).items():
            click.echo(f"  --set tunemesh.recommendations:{key}={value}")


def report_of(
    output: BootstrapOutput, imported: Imported, products: Products | None
) -> dict[str, Any]:
    """Return the report: the imports, and the properties of the stream."""
    document: dict[str, Any] = imported.document() | {"bootstrap": output.report}
    if products is not None:
        document["stream"] = stream_settings(products)
        folders = {name: str(load_contracts()[name].folder) for name in products.opened}
        document["contracts"] = folders
    return document
