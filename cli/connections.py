"""Connections of the commands: to the local platform, or to AWS in a region."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import click

from connectors.aws.endpoint import is_loopback, service_endpoint
from connectors.aws.sdk import sdk_client, service_errors
from connectors.catalog.catalog import Catalog
from connectors.glue.registry import GlueRegistry
from connectors.products.location import Location
from deploy.local.python_servers import BACK_ENDS
from deploy.local.settings import REGION, LocalSettings
from schemas.errors import TunemeshError

CONNECT_SECONDS = 5.0
"""After this time without a connection a service counts as unreachable."""

AWS_ADVICE = "Check the network, the region and the endpoint."


class ServiceUnreachable(TunemeshError):
    """A service does not accept connections."""


def require_services(settings: LocalSettings, *services: str) -> None:
    """Raise ServiceUnreachable unless these services of the local platform accept connections."""
    for service in services:
        address = getattr(settings, service).address
        title = "of the back ends" if service == BACK_ENDS else service
        require_reachable(title, address, f"Start it: tunemesh up {service}")


def require_reachable(service: str, addresses: str, advice: str) -> None:
    """Raise ServiceUnreachable unless one of the addresses (host:port, by comma) is reachable."""
    problem = ""
    for address in addresses.split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            problem = str(getattr(error, "strerror", None) or error)
        else:
            return
    raise ServiceUnreachable(
        f"the service {service} does not answer at {addresses} ({problem}). {advice}"
    )


def require_endpoint(service: str, url: str) -> None:
    """Raise ServiceUnreachable unless an AWS endpoint is reachable; not checked behind a proxy."""
    parts = urlsplit(url)
    local = is_loopback(url)
    if not local and parts.scheme in getproxies():
        return
    port = parts.port or (80 if parts.scheme == "http" else 443)
    advice = f"Start it: tunemesh up {service}" if local else AWS_ADVICE
    require_reachable(service, f"{parts.hostname}:{port}", advice)


def require_aws(service: str, api: str, region: str) -> None:
    """Raise ServiceUnreachable unless an API of AWS is reachable in a region."""
    try:
        url = service_endpoint(api, region)
    except ValueError as error:
        raise click.UsageError(f"--region: {error}") from None
    require_endpoint(service, url)


class Mesh:
    """The products and stores of a mesh: on the local platform, or on AWS in a region.

    The first client raises ServiceUnreachable when AWS, or its emulator, is not reachable: a
    command checks its options before that.
    """

    def __init__(self, region: str | None, endpoint_url: str | None) -> None:
        self.settings = LocalSettings.from_environment(os.environ)
        self.local = region is None
        self.region = region or REGION
        self.endpoint_url = endpoint_url or (self.settings.aws.url if self.local else None)
        self._is_reachable = False

    def require(self) -> None:
        """Raise ServiceUnreachable unless AWS, or its emulator, is reachable."""
        if self._is_reachable:
            return
        if self.endpoint_url is None:
            require_aws("aws", "sts", self.region)
        else:
            require_endpoint("aws", self.endpoint_url)
        self._is_reachable = True

    def client(self, service: str, endpoint_url: str | None = None) -> Any:
        """Return a client of an AWS service."""
        self.require()
        if endpoint_url is not None:
            require_endpoint(service, endpoint_url)
        return sdk_client(service, self.region, endpoint_url or self.endpoint_url)

    def catalog(self) -> Catalog:
        """Return the catalog."""
        self.require()
        return Catalog.connect(self.region, self.endpoint_url)

    def registry(self, name: str) -> GlueRegistry:
        """Return the schema registry of that name."""
        self.require()
        return GlueRegistry.connect(self.region, self.endpoint_url, name)

    def create_bucket(self, s3: Any, location: Location) -> None:
        """Create a product's bucket on the local platform; AWS has it from its infrastructure."""
        if not self.local:
            return
        with service_errors(f"create {location}", "Is the service aws up? See: tunemesh status"):
            if location.bucket not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
                s3.create_bucket(Bucket=location.bucket)


def with_mesh(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --region and --endpoint-url; the command gets their Mesh."""

    @click.option("--region", metavar="REGION", help="AWS region; by default the local platform.")
    @click.option("--endpoint-url", metavar="URL", help="Endpoint of AWS, if not AWS's own.")
    @wraps(command)
    def call(region: str | None, endpoint_url: str | None, **arguments: Any) -> Any:
        return command(Mesh(region, endpoint_url), **arguments)

    return call
