"""The signed client for Personalize."""

from __future__ import annotations

from connectors.aws import BotocoreCredentials, SignedJsonClient, service_endpoint

SIGNING_NAME = "personalize"
"""Signing name of all Personalize services (their service models, `signingName`)."""


def events_client(
    region: str, endpoint_url: str | None, connections: int, request_timeout: float
) -> SignedJsonClient:
    """The client of PutEvents, PutUsers and PutItems, with botocore's credential chain."""
    return SignedJsonClient(
        endpoint_url=endpoint_url or service_endpoint("personalize-events", region),
        region=region,
        signing_name=SIGNING_NAME,
        credentials=BotocoreCredentials(),
        connections=connections,
        request_timeout=request_timeout,
    )
