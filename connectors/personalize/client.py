"""The signed client for Personalize: its signing name and its endpoint."""

from __future__ import annotations

from connectors.aws import client, endpoint
from connectors.aws.client import JsonClient
from connectors.aws.credentials import (
    BotocoreCredentials,
    Credentials,
    CredentialSource,
    NoCredentialsError,
)

__all__ = [
    "SIGNING_NAME",
    "BotocoreCredentials",
    "CredentialSource",
    "Credentials",
    "JsonClient",
    "NoCredentialsError",
    "SignedJsonClient",
    "personalize_events_endpoint",
]

SIGNING_NAME = "personalize"
"""Signing name of all Personalize services (their service models, `signingName`)."""


class SignedJsonClient(client.SignedJsonClient):
    """POSTs JSON bodies, signed for Personalize, to one endpoint."""

    def __init__(
        self,
        *,
        endpoint_url: str,
        region: str,
        credentials: CredentialSource,
        connections: int,
        request_timeout: float,
    ) -> None:
        super().__init__(
            endpoint_url=endpoint_url,
            region=region,
            signing_name=SIGNING_NAME,
            credentials=credentials,
            connections=connections,
            request_timeout=request_timeout,
        )


def events_client(
    region: str, endpoint_url: str | None, connections: int, request_timeout: float
) -> SignedJsonClient:
    """The client of PutEvents, PutUsers and PutItems, with botocore's credential chain."""
    return SignedJsonClient(
        endpoint_url=endpoint_url or personalize_events_endpoint(region),
        region=region,
        credentials=BotocoreCredentials(),
        connections=connections,
        request_timeout=request_timeout,
    )


def personalize_events_endpoint(region: str) -> str:
    """The service's own endpoint URL in a region; see `connectors.aws.endpoint`."""
    return endpoint.service_endpoint("personalize-events", region)
