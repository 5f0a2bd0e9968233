"""Signature Version 4 on the server side: the access key of a request, and its verification.

Source: "Signing AWS API requests" in the IAM user guide. Without known credentials any complete
signature is accepted; with them the signature is verified, which tests clients that sign requests
themselves.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emulators import errors
from emulators.errors import ServiceError

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "personalize"
MAX_SKEW_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The signed elements of an HTTP request: `query` has decoded pairs, `header` finds a value."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    header: Callable[[str], str | None]
    body: bytes


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The access keys that may call.

    `secrets`: access key to secret; when not empty, all other keys are unknown and signatures are
    verified. `unknown` and `denied`: keys that receive UnrecognizedClientException and
    AccessDeniedException.
    """

    secrets: Mapping[str, str]
    unknown: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Authorization:
    access_key: str
    scope: str  # date/region/service/aws4_request
    signed_headers: tuple[str, ...]
    signature: str


def authorize(request: SignedRequest, operation: str, rules: AccessRules, now: datetime) -> str:
    """Return the access key of the call; raises the service's error when it may not call."""
    text = request.header("Authorization")
    if not text:
        raise ServiceError(
            "MissingAuthenticationTokenException", "Missing Authentication Token", 403
        )
    authorization = _parse_authorization(text)
    amz_date = request.header("X-Amz-Date")
    if not amz_date:
        raise errors.incomplete_signature(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
    key = authorization.access_key
    if key in rules.unknown or (rules.secrets and key not in rules.secrets):
        raise ServiceError(*errors.FAULTS["unrecognized_client"])
    if rules.secrets:
        _verify(request, authorization, amz_date, rules.secrets[key], now)
    if key in rules.denied:
        raise errors.access_denied(operation, key)
    return key


def _sign(request: SignedRequest, authorization: _Authorization, amz_date: str, secret: str) -> str:
    """The signature of a request with `secret`, by botocore's own signer."""
    headers = {name: request.header(name) or "" for name in authorization.signed_headers}
    signed = AWSRequest(
        request.method,
        f"http://{headers['host']}{quote(request.path, safe='/-_.~')}",
        headers=headers,
        data=request.body,
        params=dict(request.query),
    )
    signed.context["timestamp"] = amz_date
    region = authorization.scope.split("/")[1]
    signer = SigV4Auth(Credentials(authorization.access_key, secret), SERVICE, region)
    return str(
        signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)
    )


def _parse_authorization(text: str) -> _Authorization:
    algorithm, _, rest = text.partition(" ")
    if algorithm != ALGORITHM:
        raise errors.incomplete_signature(f"Unsupported AWS 'algorithm': '{algorithm}'.")
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        parts[name] = value
    missing = [n for n in ("Credential", "Signature", "SignedHeaders") if not parts.get(n)]
    if missing:
        sentences = " ".join(f"Authorization header requires '{n}' parameter." for n in missing)
        raise errors.incomplete_signature(sentences)
    access_key, _, scope = parts["Credential"].partition("/")
    elements = scope.split("/")
    if len(elements) != 4 or elements[2:] != [SERVICE, "aws4_request"] or not access_key:
        raise errors.incomplete_signature(
            "Credential must be KEY/DATE/REGION/personalize/aws4_request, "
            f"got a scope of '{scope}'."
        )
    signed_headers = tuple(parts["SignedHeaders"].lower().split(";"))
    if "host" not in signed_headers:
        raise errors.incomplete_signature("'host' must be a 'SignedHeader' in the Authorization.")
    return _Authorization(access_key, scope, signed_headers, parts["Signature"])


def _verify(
    request: SignedRequest,
    authorization: _Authorization,
    amz_date: str,
    secret: str,
    now: datetime,
) -> None:
    try:
        signed_at = datetime.strptime(amz_date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise errors.incomplete_signature(
            f"Date must be in ISO-8601 'basic format'. Got '{amz_date}'."
        ) from error
    if abs((now - signed_at).total_seconds()) > MAX_SKEW_SECONDS:
        raise errors.invalid_signature(
            f"Signature expired or not yet current: {amz_date} is more than 5 min. from "
            f"{now:%Y%m%dT%H%M%SZ}"
        )
    expected = _sign(request, authorization, amz_date, secret)
    same_day = authorization.scope.startswith(f"{amz_date[:8]}/")
    if not same_day or not hmac.compare_digest(expected, authorization.signature):
        raise errors.invalid_signature(
            "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method."
        )
