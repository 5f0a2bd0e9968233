"""Signature Version 4 as botocore creates it, verified by the emulator of Personalize."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emulators.errors import ServiceError
from emulators.personalize.signature import AccessRules, SignedRequest, authorize

STRICT = AccessRules(secrets={"local": "secret"})
OPEN = AccessRules(secrets={})
BODY = '{"userId": "ü"}'.encode()


def signed(secret: str = "secret", key: str = "local", service: str = "personalize") -> AWSRequest:
    request = AWSRequest(
        method="POST",
        url="http://127.0.0.1:28500/personalize-ranking?b=2&a=1%20x",
        data=BODY,
        headers={"Content-Type": "application/json", "X-Amz-Meta": "  two   words "},
    )
    SigV4Auth(Credentials(key, secret), service, "us-east-1").add_auth(request)
    return request


def received(
    request: AWSRequest, body: bytes = BODY, changed: Mapping[str, str | None] | None = None
) -> SignedRequest:
    headers: Mapping[str, str | None] = {
        "host": "127.0.0.1:28500",
        **{name.lower(): value for name, value in request.headers.items()},
        **{name.lower(): value for name, value in (changed or {}).items()},
    }
    return SignedRequest(
        method="POST",
        path="/personalize-ranking",
        query=(("b", "2"), ("a", "1 x")),
        header=lambda name: headers.get(name.lower()),
        body=body,
    )


def check(request: SignedRequest, rules: AccessRules, late: float = 0.0) -> str:
    now = datetime.now(UTC) + timedelta(seconds=late)
    return authorize(request, "GetPersonalizedRanking", rules, now)


def code(request: SignedRequest, rules: AccessRules, late: float = 0.0) -> str:
    with pytest.raises(ServiceError) as raised:
        check(request, rules, late)
    assert raised.value.status == 403
    return raised.value.code


def test_a_signature_of_botocore_is_valid() -> None:
    """With a query, headers with spaces and a body in UTF-8."""
    assert check(received(signed()), STRICT) == "local"


def test_a_wrong_secret_is_an_invalid_signature() -> None:
    """So is another body than the signed one."""
    assert code(received(signed(secret="other")), STRICT) == "InvalidSignatureException"
    assert code(received(signed(), body=b"{}"), STRICT) == "InvalidSignatureException"


def test_an_old_signature_is_refused() -> None:
    """After five minutes, and five minutes before, as in the service."""
    assert check(received(signed()), STRICT, late=290) == "local"
    assert code(received(signed()), STRICT, late=310) == "InvalidSignatureException"
    assert code(received(signed()), STRICT, late=-310) == "InvalidSignatureException"


def test_an_unknown_access_key_is_refused() -> None:
    """Because other keys are configured, or it is configured as unknown."""
    assert code(received(signed(key="x")), STRICT) == "UnrecognizedClientException"
    named = AccessRules(secrets={}, unknown=frozenset({"x"}))
    assert code(received(signed(key="x")), named) == "UnrecognizedClientException"


def test_a_denied_access_key_lacks_the_permission() -> None:
    """The message has the action."""
    denied = AccessRules(secrets={}, denied=frozenset({"local"}))
    with pytest.raises(ServiceError, match="personalize:GetPersonalizedRanking") as raised:
        check(received(signed()), denied)
    assert raised.value.code == "AccessDeniedException"


def test_without_known_credentials_any_complete_signature_is_accepted() -> None:
    """It cannot be verified."""
    assert check(received(signed(secret="whatever", key="any")), OPEN) == "any"


def test_a_missing_and_an_incomplete_signature_have_different_errors() -> None:
    """Missing token, incomplete signature."""
    request = signed()

    def altered(name: str, value: str | None) -> str:
        return code(received(request, changed={name: value}), OPEN)

    assert altered("Authorization", None) == "MissingAuthenticationTokenException"
    for broken in (
        "Basic bG9jYWw6c2VjcmV0",
        "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/personalize/aws4_request",
        "AWS4-HMAC-SHA256 Credential=local, SignedHeaders=host, Signature=00",
        request.headers["Authorization"].replace("host;", ""),
    ):
        assert altered("Authorization", broken) == "IncompleteSignatureException"
    assert altered("X-Amz-Date", None) == "IncompleteSignatureException"


def test_a_signature_for_another_service_is_refused() -> None:
    """The signing name is personalize, not personalize-events."""
    wrong = received(signed(service="personalize-events"))
    assert code(wrong, OPEN) == "IncompleteSignatureException"
