"""Endpoints of AWS services."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import botocore.session
from botocore.exceptions import BotoCoreError

from schemas.errors import SettingError


def service_endpoint(service: str, region: str) -> str:
    """The service's own endpoint URL in a region, from botocore's endpoint data (all partitions).

    `service` is botocore's name, such as `firehose`. As everywhere in the AWS SDKs,
    AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_<SERVICE> in the environment come first. Loads botocore's
    service model, a few tenths of a second.
    """
    session = botocore.session.Session()
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
