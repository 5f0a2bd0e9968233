"""The signed client beyond Personalize's needs; the rest is in test_personalize_client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from botocore.credentials import ReadOnlyCredentials

from connectors.aws import Answer, Credentials, NoAnswer, SignedJsonClient, service_endpoint
from connectors.aws.client import json_target


class FixedCredentials:
    async def current(self) -> Credentials:
        return Credentials(ReadOnlyCredentials("AKID", "secret", None), 0)

    async def renew(self, refused: int) -> None:
        raise AssertionError("not asked for")


def answer_of(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    method: str = "POST",
    path: str = "/",
) -> Answer | NoAnswer:
    """The answer to a call of Firehose's kind to a server that answers as the handler does."""

    async def main() -> Answer | NoAnswer:
        app = web.Application()
        app.router.add_route("*", "/{anything:.*}", handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        client = SignedJsonClient(
            endpoint_url=f"http://127.0.0.1:{runner.addresses[0][1]}",
            region="eu-west-1",
            signing_name="firehose",
            credentials=FixedCredentials(),
            connections=1,
            request_timeout=5.0,
            headers=json_target("Firehose_20150804.PutRecordBatch"),
        )
        try:
            return (await client.request(method, path, b"{}"))[0]
        finally:
            await client.close()
            await runner.cleanup()

    return asyncio.run(main())


def test_the_target_is_sent_and_signed() -> None:
    """A service with the JSON protocol finds the operation in a header, which is signed."""
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response()

    answer_of(handler)
    (request,) = seen
    assert request.headers["X-Amz-Target"] == "Firehose_20150804.PutRecordBatch"
    assert request.headers["Content-Type"] == "application/x-amz-json-1.1"
    authorization = request.headers["Authorization"]
    assert "/eu-west-1/firehose/aws4_request" in authorization
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-target," in authorization


def test_method_and_query_arrive_as_they_were_signed() -> None:
    """Percent-encoded characters of the query stay encoded on the way."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {request.raw_path}")

    answer = answer_of(handler, "PUT", "/a/_bulk?filter_path=errors%2Citems.%2A")
    assert answer == Answer(200, body=b"PUT /a/_bulk?filter_path=errors%2Citems.%2A")


def test_the_body_of_a_success_is_in_the_answer() -> None:
    """Firehose says there which records failed."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text='{"FailedPutCount":1}')

    assert answer_of(handler) == Answer(200, body=b'{"FailedPutCount":1}')


def test_an_error_has_no_body() -> None:
    """Its code and message are all that is kept."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=400, text='{"__type":"InvalidArgumentException","message":"no"}')

    assert answer_of(handler) == Answer(400, "InvalidArgumentException", "no")


def test_redirections_are_not_followed() -> None:
    """A login page that answers 200 has not taken the records."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/login":
            return web.Response(text="Welcome")
        return web.Response(status=302, headers={"Location": "/login"})

    assert answer_of(handler) == Answer(302)


@pytest.mark.parametrize(
    ("service", "url"),
    [
        ("firehose", "https://firehose.eu-west-1.amazonaws.com"),
        ("personalize-events", "https://personalize-events.eu-west-1.amazonaws.com"),
    ],
)
def test_the_endpoint_of_a_service(service: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By botocore's name of the service; the environment may name another."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert service_endpoint(service, "eu-west-1") == url
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert service_endpoint(service, "eu-west-1") == "http://127.0.0.1:1"
