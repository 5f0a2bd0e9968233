"""Index templates and the client, against a small HTTP server in the same process."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from connectors.http import Answer, NoAnswer, Response
from connectors.opensearch import OpenSearchSettings, OpenSearchSetupError, set_up_opensearch
from connectors.opensearch.client import opensearch_client, read_answer
from connectors.opensearch.documents import EVENTS_INDEX_PREFIX, TRENDS_INDEX
from connectors.opensearch.setup import index_templates
from schemas.model import BUILT_IN_FOLDER, Role, load_contracts
from tests.support.servers import Received, http_server


class Cluster:
    """What was asked for, and what is answered."""

    def __init__(self, status: int = 200, body: str = '{"acknowledged":true}') -> None:
        self.status = status
        self.body = body
        self.requests: list[Received] = []

    def __call__(self, request: Received) -> tuple[int, bytes]:
        self.requests.append(request)
        return self.status, self.body.encode()


class TestTemplates:
    def test_one_for_events_and_one_for_trends(self) -> None:
        """They match the indexes that the destination writes to, and no others."""
        templates = index_templates()
        assert {name: body["index_patterns"] for name, body in templates.items()} == {
            "tunemesh-events": [f"{EVENTS_INDEX_PREFIX}*"],
            "tunemesh-trends": [TRENDS_INDEX],
        }
        assert all(body["template"]["mappings"]["dynamic"] is False for body in templates.values())

    def test_events_have_every_field_of_the_contract(self) -> None:
        """With its type; a field that is added to the contract has to be added to the template."""
        schema = load_contracts((BUILT_IN_FOLDER,)).only(Role.ENRICHED).newest.avro

        def mapping(kind: Any) -> dict[str, Any]:
            if isinstance(kind, list):
                (kind,) = (one for one in kind if one != "null")
            if isinstance(kind, dict) and kind["type"] == "record":
                return {"properties": {f["name"]: mapping(f["type"]) for f in kind["fields"]}}
            if isinstance(kind, dict) and kind["type"] == "array":
                return mapping(kind["items"])
            if isinstance(kind, dict):
                assert kind == {"type": "long", "logicalType": "timestamp-millis"}
                return {"type": "date", "format": "epoch_millis"}
            if kind == "string":
                return {"type": "keyword", "ignore_above": 1024}
            assert kind in ("long", "boolean")
            return {"type": kind}

        mappings = index_templates()["tunemesh-events"]["template"]["mappings"]
        assert mappings["properties"] == mapping(schema)["properties"]

    def test_trends_have_the_fields_of_a_trend(self) -> None:
        """Those that the dashboards count by."""
        mappings = index_templates()["tunemesh-trends"]["template"]["mappings"]
        assert {name: field["type"] for name, field in mappings["properties"].items()} == {
            "window_start": "date",
            "dimension": "keyword",
            "key": "keyword",
            "label": "keyword",
            "plays": "long",
            "skips": "long",
            "listeners": "long",
            "completion": "float",
            "version": "long",
        }

    @pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[]", "not a JSON object")])
    def test_a_broken_file_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        """The person who changed it learns which it is."""
        (tmp_path / "events.json").write_text(text)
        with pytest.raises(OpenSearchSetupError, match=rf"events\.json .*{said}"):
            index_templates(tmp_path)

    def test_a_folder_without_any_is_an_error(self, tmp_path: Path) -> None:
        """An incomplete installation does not make indexes without a mapping."""
        with pytest.raises(OpenSearchSetupError, match="no index template"):
            index_templates(tmp_path)


class TestSetUp:
    def test_all_templates_are_put(self) -> None:
        """Each under its name, as they are in the files, every time."""
        cluster = Cluster()
        with http_server(cluster) as url:
            set_up_opensearch(OpenSearchSettings(url))
            set_up_opensearch(OpenSearchSettings(url))
        once = [
            ("PUT", f"/_index_template/{name}", body) for name, body in index_templates().items()
        ]
        assert [
            (request.method, request.path, json.loads(request.body)) for request in cluster.requests
        ] == once * 2

    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (403, "Forbidden", r"status 403\. Check the authentication"),
            (
                400,
                '{"error":{"type":"illegal_argument_exception","reason":"unknown setting"}}',
                r"\(illegal_argument_exception: unknown setting\)\. Check the endpoint URL",
            ),
            (503, "{}", r"status 503\. The cluster is overloaded"),
        ],
    )
    def test_a_refusal_says_what_to_do(self, status: int, body: str, said: str) -> None:
        """With the template, the reason, and the next step."""
        with (
            http_server(Cluster(status, body)) as url,
            pytest.raises(OpenSearchSetupError, match=f"template tunemesh-events.*{said}"),
        ):
            set_up_opensearch(OpenSearchSettings(url))

    def test_no_answer_is_said(self) -> None:
        """Nobody listens: what to check."""
        with http_server(Cluster()) as url:
            pass
        with pytest.raises(OpenSearchSetupError, match=r"does not answer.*endpoint URL"):
            set_up_opensearch(OpenSearchSettings(url))

    @pytest.mark.usefixtures("no_credentials")
    def test_no_credentials_is_said(self) -> None:
        """The message of the credential chain."""
        settings = OpenSearchSettings(
            "http://127.0.0.1:1", authentication="aws", region="us-east-1"
        )
        with pytest.raises(OpenSearchSetupError, match="AWS_ACCESS_KEY_ID"):
            set_up_opensearch(settings)


def headers_of_a_call(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> dict[str, str]:
    """The headers that arrive with a bulk call."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    cluster = Cluster(body="{}")

    async def main(url: str) -> Answer | NoAnswer:
        client = opensearch_client(OpenSearchSettings(url, **changed))
        try:
            return (await client.post("/_bulk?filter_path=errors", b"{}\n"))[0]
        finally:
            await client.close()

    with http_server(cluster) as url:
        assert asyncio.run(main(url)) == Answer(200, body=b"{}")
    (request,) = cluster.requests
    assert (request.method, request.path) == ("POST", "/_bulk?filter_path=errors")
    assert request.body == b"{}\n"
    assert request.headers["Content-Type"] == "application/json"
    return dict(request.headers)


class TestAuthentication:
    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The local cluster needs none; AWS keys in the environment are not sent."""
        assert "Authorization" not in headers_of_a_call(monkeypatch)

    def test_a_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As HTTP Basic, in UTF-8."""
        headers = headers_of_a_call(
            monkeypatch, authentication="basic", user="me", password="pässword"
        )
        scheme, _, value = headers["Authorization"].partition(" ")
        assert (scheme, b64decode(value).decode()) == ("Basic", "me:pässword")

    def test_signed_for_aws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the signing name of Amazon OpenSearch Service."""
        headers = headers_of_a_call(monkeypatch, authentication="aws", region="eu-west-1")
        assert "Credential=AKID/" in headers["Authorization"]
        assert "/eu-west-1/es/aws4_request" in headers["Authorization"]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (Response(200, {}, b'{"errors":false}'), Answer(200, body=b'{"errors":false}')),
        (
            Response(
                429,
                {"Retry-After": "3"},
                b'{"error":{"root_cause":[],"type":"rejected_execution_exception",'
                b'"reason":"full"},"status":429}',
            ),
            Answer(429, "rejected_execution_exception", "full", 3.0),
        ),
        (
            Response(400, {}, b'{"error":"no handler found for uri"}'),
            Answer(400, None, "no handler found for uri"),
        ),
        (
            Response(403, {"x-amzn-errortype": "ExpiredTokenException:x"}, b'{"message":"old"}'),
            Answer(403, "ExpiredTokenException", "old"),
        ),
        (Response(413, {}, b'{"Message":"too large"}'), Answer(413, None, "too large")),
        (Response(401, {}, b"Unauthorized"), Answer(401)),
        (Response(502, {}, b"[1]"), Answer(502)),
        (Response(500, {}, b'{"error":{"type":7,"reason":null}}'), Answer(500)),
    ],
)
def test_code_and_message_of_an_answer(response: Response, answer: Answer) -> None:
    """Wherever OpenSearch, or what is in front of it, puts them."""
    assert read_answer(response) == answer


def test_a_long_message_is_cut() -> None:
    """Dead letters keep the start of it."""
    answer = read_answer(Response(400, {}, json.dumps({"error": "x" * 9_000}).encode()))
    assert len(answer.message) == 2_000
