"""Access to AWS: signed asynchronous calls for the destinations, boto3 for the rest.

credentials      botocore's credential chain, off the event loop
signature        Signature Version 4 for calls of a fixed shape
client           signed calls on a pooled connection
endpoint         where a service is in a region
classification   error codes that all services share, and their verdicts
calls            the outcome of one call, after a renewal of rejected credentials
sdk              boto3 clients
s3               objects by address
"""

from __future__ import annotations

from connectors.aws.calls import ClassifiedCalls
from connectors.aws.client import JsonClient, SignedJsonClient
from connectors.aws.credentials import (
    BotocoreCredentials,
    Credentials,
    NoCredentialsError,
)
from connectors.aws.endpoint import service_endpoint
from connectors.http import Answer, NoAnswer

__all__ = [
    "Answer",
    "BotocoreCredentials",
    "ClassifiedCalls",
    "Credentials",
    "JsonClient",
    "NoAnswer",
    "NoCredentialsError",
    "SignedJsonClient",
    "service_endpoint",
]
