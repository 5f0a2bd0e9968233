"""Endpoints of AWS services."""

from __future__ import annotations

import ipaddress
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import botocore.loaders
import botocore.session
from botocore.exceptions import BotoCoreError

from schemas.errors import SettingError


@cache
def _loader() -> Any:
    return botocore.loaders.create_loader()


def botocore_session() -> Any:
    """Return a session with what all others have read of the services' models.

    Reading them takes 0.1 s and 12 MB for each client otherwise.
    """
    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    return session


def service_endpoint(service: str, region: str) -> str:
    """The service's own endpoint URL in a region, from botocore's endpoint data (all partitions).

    `service` is botocore's name, such as `firehose`. As everywhere in the AWS SDKs,
    AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_<SERVICE> in the environment come first. Loads botocore's
    service model, a few tenths of a second.
    """
    session = botocore_session()
    try:
        session.get_partition_for_region(region)
        client = session.create_client(service, region_name=region)
    except (BotoCoreError, ValueError):
        expected = "the name of an AWS region, such as us-east-1"
        raise SettingError("the region", region, expected) from None
    return str(client.meta.endpoint_url)


def is_loopback(url: str) -> bool:
    """Whether a URL points to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
