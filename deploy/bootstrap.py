"""`tunemesh bootstrap`: what has been -> a trained recommender.

Three stages: the products are discovered through the catalog, a job makes import-ready files of
them, and the imports bring these into Personalize. The first two are functions that this module is
given (:class:`Stages`); without them it imports a finished output (`--from`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import boto3
import click

from batch.imports import (
    LOCAL_PACE,
    Calls,
    DatasetSchemas,
    Imported,
    ImportsError,
    ImportSettings,
    Mode,
    Pace,
    SystemClock,
    read_output,
    run_imports,
)
from deploy.local.settings import ACCESS_KEY, IMPORT_ROLE, REGION, SECRET_KEY, LocalSettings
from schemas.contracts import Contracts, load_contracts

Products = TypeVar("Products")
REPORT = "imports.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. `until`: interactions published before it (milliseconds since 1970)."""

    settings: LocalSettings
    contracts: Contracts
    mode: Mode
    until: int | None


@dataclass(frozen=True, slots=True)
class Stages(Generic[Products]):
    """What comes before the imports."""

    discover: Callable[[Request], Products]
    """The data products, through the catalog."""
    run_job: Callable[[Request, Products], str]
    """Makes a bootstrap output of them; returns its location, `s3://BUCKET/PREFIX/RUN/`."""
    schemas: Callable[[Contracts], DatasetSchemas]
    """The Personalize schemas of that output, from the contracts."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """Clients of S3 and Personalize, and how often the latter is asked."""

    s3: Any
    personalize: Any
    pace: Pace

    @classmethod
    def local(cls, settings: LocalSettings) -> Cloud:
        """Those of the laptop platform."""
        session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
        return cls(
            session.client("s3", endpoint_url=settings.aws.url),
            session.client("personalize", endpoint_url=settings.personalize.url),
            LOCAL_PACE,
        )

    @classmethod
    def aws(cls, region: str) -> Cloud:
        """Those of a region, with the credentials of the environment."""
        session = boto3.Session(region_name=region)
        return cls(session.client("s3"), session.client("personalize"), Pace())


def import_output(
    cloud: Cloud,
    location: str,
    schemas: DatasetSchemas,
    chosen: ImportSettings,
    progress: Callable[[str], None],
) -> Imported:
    """A finished bootstrap output -> a campaign; raises ImportsError."""
    output = read_output(cloud.s3, location, chosen.mode)
    calls = Calls(cloud.personalize, SystemClock(), cloud.pace)
    return run_imports(calls, chosen, schemas, output, progress)


def command(stages: Stages[Any] | None) -> click.Command:
    """The sub-command, with these stages before the imports."""

    @click.command(name="bootstrap")
    @click.option("--full/--incremental", "full", default=True, help="Replace, or add. [full]")
    @click.option("--until", metavar="T", help="Only interactions published before T.")
    @click.option("--from", "location", metavar="S3", help="A finished output, s3://BUCKET/RUN/.")
    @click.option(
        "--schemas",
        "folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Where users.json, items.json and interactions.json are: the output's schemas.",
    )
    @click.option("--name", default="tunemesh", show_default=True, help="Of the dataset group.")
    @click.option(
        "--aws", "region", metavar="REGION", help="Amazon Personalize, not the local one."
    )
    @click.option("--role", metavar="ARN", help="The role that reads the bucket; for --aws.")
    def bootstrap(
        full: bool,
        until: str | None,
        location: str | None,
        folder: Path | None,
        name: str,
        region: str | None,
        role: str | None,
    ) -> None:
        """Personalize from what has been: data products, imports, training, campaign.

        Run again after it was interrupted, it goes on where it was.
        """
        settings = LocalSettings.from_environment(os.environ)
        if region is not None and role is None:
            raise ImportsError("--aws needs --role: what lets Personalize read the bucket.")
        cloud = Cloud.local(settings) if region is None else Cloud.aws(region)
        mode = Mode.FULL if full else Mode.INCREMENTAL
        contracts = load_contracts()
        request = Request(settings, contracts, mode, None if until is None else epoch_ms(until))
        chosen = ImportSettings(role_arn=role or IMPORT_ROLE, name=name, mode=mode)
        found = _schemas(folder, stages, contracts)
        place = location if location is not None else _output(stages, request)
        imported = import_output(cloud, place, found, chosen, click.echo)
        _report(settings, imported)

    return bootstrap


def epoch_ms(text: str) -> int:
    """Milliseconds since 1970 of `text`: these themselves, or a time in ISO 8601 (UTC without an
    offset)."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ImportsError(
            f"--until {text!r}: expected milliseconds since 1970, or a time such as "
            "2026-11-23T14:25:00Z."
        ) from error
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


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


def _schemas(
    folder: Path | None, stages: Stages[Any] | None, contracts: Contracts
) -> DatasetSchemas:
    if folder is not None:
        return read_schemas(folder)
    if stages is None:
        raise ImportsError("--schemas is needed: the folder with the schemas of the output.")
    return stages.schemas(contracts)


def _output(stages: Stages[Any] | None, request: Request) -> str:
    if stages is None:
        raise ImportsError("--from is needed: the place of a finished bootstrap output.")
    return stages.run_job(request, stages.discover(request))


def _report(settings: LocalSettings, imported: Imported) -> None:
    settings.reports.mkdir(parents=True, exist_ok=True)
    file = settings.reports / REPORT
    file.write_text(json.dumps(imported.document(), indent=2) + "\n", encoding="utf-8")
    click.echo(f"campaign: {imported.campaign}")
    click.echo(f"tracking id: {imported.tracking_id}")
    click.echo(f"all of it: {file}")


bootstrap = command(None)
