"""Where products, stores and the catalog are: the laptop platform, or AWS in a region."""

from __future__ import annotations

import os
from typing import Any

import click

from connectors.aws.sdk import sdk_client, service_errors
from connectors.catalog import Catalog
from connectors.products.location import Location
from deploy.local.settings import REGION, LocalSettings
from schemas.timestamps import epoch_ms


class Mesh:
    """Where products and stores are: the laptop platform, or AWS in a region."""

    def __init__(self, region: str | None, endpoint_url: str | None) -> None:
        self.settings = LocalSettings.from_environment(os.environ)
        self.local = region is None
        self.region = region or REGION
        self.endpoint_url = endpoint_url or (self.settings.aws.url if self.local else None)

    def client(self, service: str, endpoint_url: str | None = None) -> Any:
        """A client of a service."""
        return sdk_client(service, self.region, endpoint_url or self.endpoint_url)

    def catalog(self) -> Catalog:
        """The catalog."""
        return Catalog.connect(self.region, self.endpoint_url)

    def create_bucket(self, s3: Any, location: Location) -> None:
        """Creates a product's bucket on the laptop; on AWS it is the domain's infrastructure."""
        if not self.local:
            return
        with service_errors(f"create {location}", "Is the part aws up? See: tunemesh status"):
            if location.bucket not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
                s3.create_bucket(Bucket=location.bucket)


def parsed_moment(option: str, text: str) -> int:
    """Epoch milliseconds of an option's text; raises click.UsageError that names the option."""
    try:
        return epoch_ms(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
