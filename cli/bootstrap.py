"""`tunemesh bootstrap`: what has been -> a trained recommender.

Three stages: the products are opened through the catalog, a job makes import-ready files of them,
and the imports bring these into Personalize. Each finds what an earlier attempt has made, so a
bootstrap that was killed goes on when it is run again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from batch.bootstrap.settings import Window
from batch.imports import (
    LOCAL_PACE,
    BootstrapOutput,
    Calls,
    DatasetSchemas,
    Imported,
    ImportsError,
    ImportSettings,
    Mode,
    Pace,
    read_output,
    run_imports,
)
from batch.personalize_schemas import interactions_schema, items_schema, users_schema
from cli.connections import Mesh, parsed_moment
from cli.local import fetch_jars
from connectors.aws.sdk import sdk_client
from connectors.catalog import Catalog, OpenedProduct
from connectors.files import write_report
from connectors.products.location import Location
from deploy.local import bootstrap as local_bootstrap
from deploy.local.settings import BUCKET, IMPORT_ROLE
from schemas.model import Contract, Contracts, Role, load_contracts

CONSUMER = "recommender"
REPORT = "imports.json"
OUTPUT = Location(BUCKET, "bootstrap/")
"""Where the laptop's runs are."""


@dataclass(frozen=True, slots=True)
class Products:
    """The opened products by contract, and which of the interactions a run takes."""

    opened: Mapping[str, OpenedProduct]
    window: Window
    datasets_since: int
    """When the first of the exports of users and items began, epoch ms: changes since then are the
    stream's."""

    @property
    def run(self) -> str:
        """A name that follows from what the run is made of: the same again is the same run."""
        made_of = {
            "products": {
                name: [str(one.location), one.manifest.version, *one.columns]
                for name, one in sorted(self.opened.items())
            },
            "window": [self.window.since, self.window.until],
        }
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]

    def request(self) -> local_bootstrap.Request:
        """The same for the job: manifests, and columns that may be read."""
        return local_bootstrap.Request(
            output=str(OUTPUT),
            run=self.run,
            products={
                name: one.location.url(one.location.manifest(one.manifest.version))
                for name, one in self.opened.items()
            },
            window=self.window,
            columns={name: one.columns for name, one in self.opened.items()},
        )


def open_products(
    catalog: Catalog, contracts: Contracts, consumer: str, since: int | None, until: int | None
) -> Products:
    """Every product of users, items and interactions, as the consumer may read it.

    Raises NotGranted, CatalogError, and ImportsError for a product of interactions that does not
    reach to ``until``.
    """
    roles = (Role.USER, Role.ITEM, Role.INTERACTION)
    needed: list[Contract] = [one for role in roles for one in contracts.with_role(role)]
    opened = {contract.name: catalog.open_product(contract.name, consumer) for contract in needed}
    interactions = opened[contracts.only(Role.INTERACTION).name].manifest
    end = interactions.until if until is None else until
    reaches = interactions.created_at if interactions.until is None else interactions.until
    if end is not None and end > reaches:
        raise ImportsError(
            f"the product {interactions.product} has what was published before {reaches}, not all"
            f" before {end}: tunemesh export {interactions.product} --until {end}"
        )
    begun = [
        opened[contract.name].manifest.created_at
        for role in (Role.USER, Role.ITEM)
        for contract in contracts.with_role(role)
    ]
    return Products(opened, Window(since, end), min(begun))


def personalize_schemas(contracts: Contracts) -> DatasetSchemas:
    """The schemas of what the job makes."""
    return DatasetSchemas(
        *(json.dumps(make(contracts)) for make in (users_schema, items_schema, interactions_schema))
    )


def read_schemas(folder: Path) -> DatasetSchemas:
    """The three schemas in `folder`; raises ImportsError."""
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


def make_output(mesh: Mesh, products: Products, report: Callable[[str], None]) -> str:
    """The job, in a process of its own on this machine; returns the location of what it made.

    Raises ImportsError when it is not enough to train with.
    """
    fetch_jars(["flink", "parquet", "s3"])
    mesh.create_bucket(mesh.client("s3"), OUTPUT)
    request = products.request()
    report(f"job {request.run}: {', '.join(products.opened)} -> {request.folder}")
    made = local_bootstrap.in_process(mesh.settings, request)
    for dataset in ("users", "items", "interactions"):
        counts = ", ".join(f"{count:,} {name}" for name, count in made[dataset].items())
        report(f"  {dataset:<12} {counts}")
    if not made["trainable"]:
        raise ImportsError(
            f"{request.folder} is not imported, it is not enough to train with: "
            + "; ".join(made["problems"])
        )
    return f"{request.folder}/"


def import_output(
    mesh: Mesh,
    output: BootstrapOutput,
    schemas: DatasetSchemas,
    chosen: ImportSettings,
    progress: Callable[[str], None],
) -> Imported:
    """A finished bootstrap output -> a campaign; raises ImportsError."""
    endpoint_url = mesh.settings.personalize.url if mesh.local else None
    personalize = sdk_client("personalize", mesh.region, endpoint_url)
    pace = LOCAL_PACE if mesh.local else Pace()
    return run_imports(Calls(personalize, pace), chosen, schemas, output, progress)


def stream_settings(products: Products) -> dict[str, str]:
    """What makes the stream go on where the import ends: of the group tunemesh.recommendations."""
    until = products.window.until
    return {
        "datasets.start": str(products.datasets_since),
        **({} if until is None else {"imported.until": str(until)}),
    }


@click.command()
@click.option("--full/--incremental", "full", default=True, help="Replace, or add. [full]")
@click.option("--since", metavar="T", help="Only interactions published at T or later.")
@click.option("--until", metavar="T", help="Only interactions published before T.")
@click.option("--consumer", default=CONSUMER, show_default=True, help="Who reads the products.")
@click.option("--from", "location", metavar="S3", help="A finished output, s3://BUCKET/RUN/.")
@click.option(
    "--schemas",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where users.json, items.json and interactions.json are, if not this version's.",
)
@click.option("--name", default="tunemesh", show_default=True, help="Of the dataset group.")
@click.option("--aws", "region", metavar="REGION", help="Amazon Personalize, not the local one.")
@click.option("--role", metavar="ARN", help="The role that reads the bucket; for --aws.")
def bootstrap(
    full: bool,
    since: str | None,
    until: str | None,
    consumer: str,
    location: str | None,
    folder: Path | None,
    name: str,
    region: str | None,
    role: str | None,
) -> None:
    """Personalize from what has been: data products, imports, training, campaign.

    Run again after it was interrupted, it goes on where it was. T: epoch ms, or ISO 8601.
    """
    mode = Mode.FULL if full else Mode.INCREMENTAL
    if region is not None and (role is None or location is None):
        raise click.UsageError(
            "--aws needs --role, which lets Personalize read the bucket, and --from: the job runs"
            " on Managed Flink."
        )
    if location is not None and (since or until):
        raise click.UsageError("--since and --until are the job's: --from has its output.")
    if mode is Mode.INCREMENTAL and location is None and since is None:
        raise click.UsageError(
            "--incremental needs --since: with what an earlier bootstrap has imported again,"
            " Personalize would count it twice."
        )
    mesh = Mesh(region, None)
    contracts = load_contracts()
    chosen = ImportSettings(role_arn=role or IMPORT_ROLE, name=name, mode=mode)
    schemas = personalize_schemas(contracts) if folder is None else read_schemas(folder)
    products = None
    if location is None:
        products = open_products(
            mesh.catalog(),
            contracts,
            consumer,
            None if since is None else parsed_moment("--since", since),
            None if until is None else parsed_moment("--until", until),
        )
        location = make_output(mesh, products, click.echo)
    output = read_output(mesh.client("s3"), location, chosen.mode)
    imported = import_output(mesh, output, schemas, chosen, click.echo)
    file = mesh.settings.reports / REPORT
    write_report(file, report_of(output, imported, products))
    click.echo(f"campaign: {imported.campaign}")
    click.echo(f"tracking id: {imported.tracking_id}")
    if products is not None:
        click.echo("the stream goes on from there with")
        for key, value in stream_settings(products).items():
            click.echo(f"  --set tunemesh.recommendations:{key}={value}")
    click.echo(f"all of it: {file}")


def report_of(
    output: BootstrapOutput, imported: Imported, products: Products | None
) -> dict[str, Any]:
    """What there is now, and how the stream goes on."""
    document: dict[str, Any] = imported.document() | {"bootstrap": output.report}
    if products is not None:
        document["stream"] = stream_settings(products)
    return document
