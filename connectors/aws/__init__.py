"""What the destinations that are AWS services have in common.

credentials      botocore's credential chain, off the event loop
signature        Signature Version 4 for calls of a fixed shape
client           signed calls on a pooled connection
endpoint         where a service is in a region
classification   error codes that all services share, and what they mean
calls            one call to its outcome, with refused credentials fetched anew
"""

from __future__ import annotations

from connectors.aws.calls import ClassifiedCalls
from connectors.aws.classification import CredentialsRefused, ErrorCode, Kind, Verdict
from connectors.aws.client import JsonClient, SignedJsonClient
from connectors.aws.credentials import (
    BotocoreCredentials,
    Credentials,
    CredentialSource,
    NoCredentialsError,
)
from connectors.aws.endpoint import service_endpoint
from connectors.aws.signature import Signature
from connectors.http import Answer, NoAnswer

__all__ = [
    "Answer",
    "BotocoreCredentials",
    "ClassifiedCalls",
    "CredentialSource",
    "Credentials",
    "CredentialsRefused",
    "ErrorCode",
    "JsonClient",
    "Kind",
    "NoAnswer",
    "NoCredentialsError",
    "Signature",
    "SignedJsonClient",
    "Verdict",
    "service_endpoint",
]
