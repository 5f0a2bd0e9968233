"""The signed client against a small HTTP server in the same process."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from botocore.credentials import ReadOnlyCredentials

from connectors.aws import (
    Answer,
    BotocoreCredentials,
    Credentials,
    NoAnswer,
    NoCredentialsError,
    SignedJsonClient,
    service_endpoint,
)
from connectors.aws.client import json_target
from connectors.personalize.client import SIGNING_NAME
from schemas.errors import SettingError
from tests.support.ports import free_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

KEYS = ReadOnlyCredentials("AKID", "very-secret", None)


class FixedCredentials:
    def __init__(self, keys: ReadOnlyCredentials = KEYS) -> None:
        self.keys = keys

    async def current(self) -> Credentials:
        return Credentials(self.keys, 3)

    async def renew(self, refused: int) -> None:
        raise AssertionError("not asked for")


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """The URL of a server that answers everything with the handler."""
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def calling(url: str, **changed: Any) -> AsyncIterator[SignedJsonClient]:
    settings: dict[str, Any] = {
        "endpoint_url": url,
        "region": "us-east-1",
        "signing_name": SIGNING_NAME,
        "credentials": FixedCredentials(),
        "connections": 4,
        "request_timeout": 5.0,
    }
    client = SignedJsonClient(**(settings | changed))
    try:
        yield client
    finally:
        await client.close()


def answer_of(
    handler: Handler,
    body: bytes = b"{}",
    *,
    method: str = "POST",
    path: str = "/events",
    **changed: Any,
) -> Answer | NoAnswer:
    async def main() -> Answer | NoAnswer:
        async with serving(handler) as url, calling(url, **changed) as client:
            answer, generation = await client.request(method, path, body)
            assert generation == 3
            return answer

    return asyncio.run(main())


def firehose_answer(handler: Handler, **changed: Any) -> Answer | NoAnswer:
    """The answer to a call of Firehose's kind."""
    headers = json_target("Firehose_20150804.PutRecordBatch")
    firehose: dict[str, Any] = {
        "region": "eu-west-1",
        "signing_name": "firehose",
        "headers": headers,
    }
    return answer_of(handler, **firehose, **changed)


def replying(status: int, body: str = "", **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=body, headers=named)

    return handler


def expected_signature(request: web.Request, body: bytes, keys: ReadOnlyCredentials) -> str:
    """Signature Version 4 by its specification, apart from botocore."""
    scope, signed, _ = (
        part.split("=", 1)[1]
        for part in request.headers["Authorization"].split(" ", 1)[1].split(", ")
    )
    _, date, region, service, terminator = scope.split("/")
    assert (region, service, terminator) == ("us-east-1", "personalize", "aws4_request")
    canonical = "\n".join(
        [
            request.method,
            request.path,
            "",
            *(f"{name}:{request.headers[name]}" for name in signed.split(";")),
            "",
            signed,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            request.headers["X-Amz-Date"],
            scope.split("/", 1)[1],
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{keys.secret_key}".encode()
    for part in (date, region, service, terminator):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


class TestRequests:
    @pytest.mark.parametrize("token", [None, "a-session-token"])
    def test_calls_are_signed_by_the_specification(self, token: str | None) -> None:
        """Body, host, date, type and session token are covered by a valid signature."""
        keys = ReadOnlyCredentials("AKID", "very-secret", token)
        body = json.dumps({"sessionId": "é"}).encode()
        seen: list[str] = []

        async def handler(request: web.Request) -> web.Response:
            assert await request.read() == body
            assert request.content_type == "application/json"
            authorization = request.headers["Authorization"]
            assert "Credential=AKID/" in authorization
            assert request.headers.get("X-Amz-Security-Token") == token
            assert ("x-amz-security-token" in authorization) == (token is not None)
            assert authorization.endswith(f"={expected_signature(request, body, keys)}")
            seen.append(authorization)
            return web.Response()

        assert answer_of(handler, body, credentials=FixedCredentials(keys)) == Answer(200)
        assert len(seen) == 1

    def test_connections_are_kept_and_bounded(self) -> None:
        """Many calls need no more connections than allowed."""
        ports: set[int] = set()

        async def handler(request: web.Request) -> web.Response:
            assert request.transport is not None
            ports.add(request.transport.get_extra_info("peername")[1])
            await asyncio.sleep(0.001)
            return web.Response()

        async def main() -> None:
            async with serving(handler) as url, calling(url, connections=4) as client:
                answers = await asyncio.gather(*(client.post("/events", b"{}") for _ in range(60)))
                assert [answer for answer, _ in answers] == [Answer(200)] * 60

        asyncio.run(main())
        assert len(ports) == 4


class TestAnswers:
    @pytest.mark.parametrize(
        ("handler", "answer"),
        [
            (replying(200), Answer(200)),
            (
                replying(
                    400,
                    '{"message":"no"}',
                    x_amzn_errortype="InvalidInputException:http://internal.amazon.com/coral/",
                ),
                Answer(400, "InvalidInputException", "no"),
            ),
            (
                replying(400, '{"__type":"com.amazonaws.personalize#ThrottlingException"}'),
                Answer(400, "ThrottlingException"),
            ),
            (
                replying(403, '{"code":"AccessDeniedException","Message":"denied"}'),
                Answer(403, "AccessDeniedException", "denied"),
            ),
            (replying(502, "<html>Bad Gateway</html>"), Answer(502)),
            (replying(500, "[1]"), Answer(500)),
            (replying(500, ""), Answer(500)),
            (replying(503, "", Retry_After="2.5"), Answer(503, retry_after=2.5)),
            (replying(503, "", Retry_After="-1"), Answer(503)),
            (replying(503, "", Retry_After="99999"), Answer(503, retry_after=300.0)),
            (replying(503, "", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), Answer(503)),
        ],
    )
    def test_code_message_and_retry_after(self, handler: Handler, answer: Answer) -> None:
        """Wherever the service puts them, and whatever a proxy answers in its place."""
        assert answer_of(handler) == answer

    def test_a_long_message_is_cut(self) -> None:
        """Dead letters keep the start of what the service said, not all of a page."""
        answer = answer_of(replying(400, json.dumps({"message": "x" * 10_000})))
        assert isinstance(answer, Answer)
        assert len(answer.message) == 2_000


class TestNoAnswer:
    def test_time_out(self) -> None:
        """A service that says nothing is given up after the set time, and said so."""

        async def silent(_request: web.Request) -> web.Response:
            await asyncio.sleep(60)
            return web.Response()

        answer = answer_of(silent, request_timeout=0.1)
        assert answer == NoAnswer("no answer within 0.1 s")

    def test_connection_refused(self) -> None:
        """Nobody listens: no answer, with the reason."""

        async def main() -> Answer | NoAnswer:
            async with calling(f"http://127.0.0.1:{free_port()}") as client:
                return (await client.post("/events", b"{}"))[0]

        answer = asyncio.run(main())
        assert isinstance(answer, NoAnswer)
        assert "ClientConnectorError" in answer.reason

    def test_connection_closed_in_the_middle(self) -> None:
        """A connection that ends before the answer is no answer."""

        async def hang_up(request: web.Request) -> web.Response:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

        answer = answer_of(hang_up)
        assert isinstance(answer, NoAnswer)
        assert "Disconnected" in answer.reason

    def test_a_torn_answer(self) -> None:
        """An answer that ends in the middle is no answer."""

        async def torn(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=500, headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"{")
            assert request.transport is not None
            request.transport.close()
            return response

        assert isinstance(answer_of(torn), NoAnswer)


def provide_temporary_credentials(folder: Path, *, first_minutes: int, refresh_fails: bool) -> None:
    """Credentials from a program: key-0 for some minutes, later ones for hours.

    `refresh_fails`: the second call fails, and later ones wait for a file `released`.
    """
    program = folder / "credentials.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import datetime, json, pathlib, sys, time
            calls = pathlib.Path({str(folder / "calls")!r})
            count = len(calls.read_text()) if calls.exists() else 0
            calls.write_text("x" * (count + 1))
            if {refresh_fails} and count == 1:
                sys.exit(1)
            released = pathlib.Path({str(folder / "released")!r})
            while {refresh_fails} and count > 1 and not released.exists():
                time.sleep(0.01)
            life = datetime.timedelta(minutes=600 if count else {first_minutes})
            end = datetime.datetime.now(datetime.timezone.utc) + life
            print(json.dumps({{
                "Version": 1, "AccessKeyId": f"key-{{count}}", "SecretAccessKey": "s",
                "SessionToken": "t", "Expiration": end.isoformat(),
            }}))
            """
        )
    )
    config = f"[default]\ncredential_process = {sys.executable} {program}\n"
    (folder / "config").write_text(config)


@pytest.mark.usefixtures("no_credentials")
class TestCredentials:
    def test_the_environment_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Until they are rejected; then the present ones are read."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")

        async def main() -> None:
            source = BotocoreCredentials()
            before = await source.current()
            assert (before.keys.access_key, before.keys.token, before.generation) == (
                "one",
                None,
                0,
            )
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "two")
            assert await source.current() is before
            await asyncio.gather(*(source.renew(0) for _ in range(5)))
            after = await source.current()
            assert (after.keys.access_key, after.generation) == ("two", 1)

        asyncio.run(main())

    def test_none_at_all(self) -> None:
        """The message says what to set."""
        with pytest.raises(NoCredentialsError, match="AWS_ACCESS_KEY_ID"):
            asyncio.run(BotocoreCredentials().current())

    def test_half_of_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What botocore says of it reaches the reader as our error."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
        with pytest.raises(NoCredentialsError, match="could not be read"):
            asyncio.run(BotocoreCredentials().current())

    def test_an_unknown_profile(self) -> None:
        """The same for a profile that is not there."""
        with pytest.raises(NoCredentialsError, match="unknown"):
            asyncio.run(BotocoreCredentials(profile="unknown").current())

    def test_temporary_ones_are_refreshed_before_they_end(self, tmp_path: Path) -> None:
        """Once they are about to expire, fresh ones are fetched, once for all who ask."""
        # The first ones are within the time in which botocore refreshes; all later ones last.
        provide_temporary_credentials(tmp_path, first_minutes=5, refresh_fails=False)

        async def main() -> None:
            source = BotocoreCredentials()
            for _ in range(3):
                seen = await asyncio.gather(*(source.current() for _ in range(5)))
            assert {(one.keys.access_key, one.generation) for one in seen} == {("key-1", 0)}

        asyncio.run(main())
        assert len((tmp_path / "calls").read_text()) == 2

    def test_a_refresh_that_hangs_delays_nobody_while_keys_are_valid(self, tmp_path: Path) -> None:
        """Twelve minutes before the expiry: the metadata service fails, then does not answer."""
        provide_temporary_credentials(tmp_path, first_minutes=12, refresh_fails=True)

        async def main() -> None:
            source = BotocoreCredentials()
            seen = [await source.current() for _ in range(80)]
            assert {credentials.keys.access_key for credentials in seen} == {"key-0"}
            (tmp_path / "released").touch()
            async with asyncio.timeout(60):
                while (await source.current()).keys.access_key != "key-2":  # noqa: ASYNC110 - polled
                    await asyncio.sleep(0.01)

        asyncio.run(main())
        assert len((tmp_path / "calls").read_text()) == 3


def test_the_target_is_sent_and_signed() -> None:
    """A service with the JSON protocol finds the operation in a header, which is signed."""
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response()

    firehose_answer(handler)
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

    answer = firehose_answer(handler, method="PUT", path="/a/_bulk?filter_path=errors%2Citems.%2A")
    assert answer == Answer(200, body=b"PUT /a/_bulk?filter_path=errors%2Citems.%2A")


@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        # Firehose says there which records failed.
        (replying(200, '{"FailedPutCount":1}'), Answer(200, body=b'{"FailedPutCount":1}')),
        # Its code and message are all that is kept of an error.
        (
            replying(400, '{"__type":"InvalidArgumentException","message":"no"}'),
            Answer(400, "InvalidArgumentException", "no"),
        ),
    ],
)
def test_the_body_of_a_success_is_in_the_answer(handler: Handler, answer: Answer) -> None:
    """An error has no body."""
    assert firehose_answer(handler) == answer


def test_redirections_are_not_followed() -> None:
    """A login page that answers 200 has not taken the records."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/login":
            return web.Response(text="Welcome")
        return web.Response(status=302, headers={"Location": "/login"})

    assert firehose_answer(handler) == Answer(302)


@pytest.mark.usefixtures("no_credentials")
class TestEndpoint:
    @pytest.mark.parametrize(
        ("service", "region", "url"),
        [
            ("firehose", "eu-west-1", "https://firehose.eu-west-1.amazonaws.com"),
            (
                "personalize-events",
                "cn-north-1",
                "https://personalize-events.cn-north-1.amazonaws.com.cn",
            ),
        ],
    )
    def test_the_service_in_a_region(
        self, monkeypatch: pytest.MonkeyPatch, service: str, region: str, url: str
    ) -> None:
        """From botocore's own data, for every partition; the environment may name another."""
        assert service_endpoint(service, region) == url
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        assert service_endpoint(service, region) == "http://127.0.0.1:1"

    @pytest.mark.parametrize("region", ["", "somewhere"])
    def test_an_unknown_region_is_named(self, region: str) -> None:
        """The start of the job stops with the name."""
        with pytest.raises(SettingError, match=f"the region is '{region}'; expected"):
            service_endpoint("personalize-events", region)

    @pytest.mark.parametrize("url", ["localhost:28500", "ftp://x", "http://", ""])
    def test_a_wrong_url_is_named(self, url: str) -> None:
        """The start of the job stops with the URL and an example."""
        with pytest.raises(SettingError, match=f"the endpoint URL is '{url}'; expected"):
            SignedJsonClient(
                endpoint_url=url,
                region="us-east-1",
                signing_name=SIGNING_NAME,
                credentials=FixedCredentials(),
                connections=1,
                request_timeout=1,
            )
