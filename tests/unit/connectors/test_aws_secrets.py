"""References to secrets in properties, over HTTP against a stand-in of Secrets Manager."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from connectors.aws.sdk import ServiceUnavailable
from connectors.aws.secrets import SecretError, resolve_secrets
from connectors.kafka.tables import KafkaSettings, source_table
from tests.support.servers import Received, http_server

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:AmazonMSK_app-a1B2c3"
DENIED = ARN.replace("app", "other")
SECRETS = {ARN: json.dumps({"username": "app", "password": "hunter2", "uses": 3})}


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The ARNs that were asked for."""
    asked: list[str] = []

    def answer(received: Received) -> tuple[int, bytes]:
        arn = json.loads(received.body)["SecretId"]
        asked.append(arn)
        if arn not in SECRETS:
            return 400, b'{"__type": "AccessDeniedException", "Message": "no identity"}'
        return 200, json.dumps({"ARN": arn, "SecretString": SECRETS[arn]}).encode()

    with http_server(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        yield asked


def test_references_are_replaced_and_each_secret_is_read_once(requests: list[str]) -> None:
    """A whole secret, or members of one; other values are kept, also those that are no text."""
    login = f'required username="${{secret:{ARN}#username}}" password="${{secret:{ARN}#password}}";'
    properties = {"sasl.jaas.config": login, "all": f"${{secret:{ARN}}}", "n": 1, "x": "$secret"}
    assert resolve_secrets(properties) == {
        "sasl.jaas.config": 'required username="app" password="hunter2";',
        "all": SECRETS[ARN],
        "n": 1,
        "x": "$secret",
    }
    assert requests == [ARN]
    assert resolve_secrets({"a": "b"}) == {"a": "b"}
    assert requests == [ARN]


def test_a_table_has_the_secret_and_the_settings_the_reference(requests: list[str]) -> None:
    """What is printed, logged or pickled is the settings."""
    reference = f"${{secret:{ARN}#password}}"
    kafka = KafkaSettings("b:9092", {"ssl.key.password": reference})
    ddl = source_table("t", ["users"], kafka, group_id="g", start="earliest")
    assert "'properties.ssl.key.password' = 'hunter2'" in ddl
    assert kafka.client == {"ssl.key.password": reference}


@pytest.mark.parametrize(
    ("reference", "error", "text"),
    [
        (f"{DENIED}", ServiceUnavailable, "secretsmanager:GetSecretValue"),
        ("mine", SecretError, "sasl.password refers to 'mine', which is no ARN"),
        (f"{ARN}#nothing", SecretError, "no JSON object with a text 'nothing'"),
        (f"{ARN}#uses", SecretError, "no JSON object with a text 'uses'"),
    ],
)
def test_an_error_names_the_reference_and_never_the_secret(
    requests: list[str], reference: str, error: type[Exception], text: str
) -> None:
    """One sentence with the property."""
    with pytest.raises(error) as caught:
        resolve_secrets({"sasl.password": f"${{secret:{reference}}}"})
    assert text in str(caught.value)
    assert "sasl.password" in str(caught.value)
    assert "hunter2" not in str(caught.value)
