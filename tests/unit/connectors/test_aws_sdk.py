"""Clients of boto3: which credentials they have."""

from __future__ import annotations

import pytest

from connectors.aws.endpoint import is_loopback
from connectors.aws.sdk import sdk_client


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:25000", True),
        ("http://localhost:25000", True),
        ("http://[::1]:25000", True),
        ("https://glue.eu-west-1.amazonaws.com", False),
        ("http://127.0.0.1.example.com", False),
    ],
)
def test_a_url_points_to_this_machine_or_not(url: str, expected: bool) -> None:
    """By its host: a name that begins like an address is another machine's."""
    assert is_loopback(url) is expected


@pytest.mark.parametrize(
    ("url", "key"), [("http://127.0.0.1:25000", "local"), ("http://127.0.0.1.example.com", "real")]
)
def test_only_this_machine_gets_the_local_credentials(
    monkeypatch: pytest.MonkeyPatch, url: str, key: str
) -> None:
    """And this machine never gets the real ones."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    client = sdk_client("sts", "eu-west-1", url)
    signed = client.generate_presigned_url("get_caller_identity")
    assert signed.startswith(url)
    assert f"X-Amz-Credential={key}%2F" in signed
