"""Calls to OpenSearch: without authentication, with a password, or signed for AWS."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final, Protocol

from connectors.aws import BotocoreCredentials, JsonClient, SignedJsonClient
from connectors.aws.client import JSON, bare_code
from connectors.http import MAX_MESSAGE_CHARS, Answer, HttpPool, NoAnswer, Response, retry_after
from connectors.opensearch.settings import OpenSearchSettings

SIGNING_NAME: Final = "es"
"""Of Amazon OpenSearch Service (its service model's `endpointPrefix`)."""


class OpenSearchClient(JsonClient, Protocol):
    """What the destination and the setup require of a client."""

    async def request(
        self, method: str, path: str, body: bytes
    ) -> tuple[Answer | NoAnswer, int]: ...


class PlainClient:
    """Calls with fixed headers: no authentication, or a password."""

    def __init__(self, pool: HttpPool, headers: Mapping[str, str]) -> None:
        self._pool = pool
        self._headers = headers

    async def post(self, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        """The answer to one call, or why there is none; credentials have one generation."""
        return await self.request("POST", path, body)

    async def request(self, method: str, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        """As `post`, with another method."""
        response = await self._pool.request(method, path, body, self._headers)
        return response if isinstance(response, NoAnswer) else read_answer(response), 0

    async def renew_credentials(self, refused: int) -> None:
        """Do nothing: a password is a setting."""

    async def close(self) -> None:
        await self._pool.close()


def opensearch_client(settings: OpenSearchSettings) -> OpenSearchClient:
    """The client for settings. Opens nothing yet."""
    if settings.authentication == "aws":
        assert settings.region is not None  # the settings have checked it
        return SignedJsonClient(
            endpoint_url=settings.endpoint_url,
            region=settings.region,
            signing_name=SIGNING_NAME,
            credentials=BotocoreCredentials(),
            connections=settings.max_in_flight,
            request_timeout=settings.request_timeout,
            read=read_answer,
        )
    headers = dict(JSON)
    if settings.authentication == "basic":
        pair = f"{settings.user}:{settings.password}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    pool = HttpPool(
        endpoint_url=settings.endpoint_url,
        connections=settings.max_in_flight,
        request_timeout=settings.request_timeout,
    )
    return PlainClient(pool, headers)


def read_answer(response: Response) -> Answer:
    """An answer of OpenSearch, or of AWS in front of it.

    OpenSearch: `{"error": {"type": code, "reason": message}, "status": ...}`, or `error` a text. In
    front of Amazon OpenSearch Service: the header x-amzn-errortype, and `message` or `Message`.
    """
    if response.status < 300:
        return Answer(response.status, body=response.body)
    code, message = _code_and_message(response.document())
    if code is None:
        code = bare_code(response.headers.get("x-amzn-errortype", ""))
    return Answer(response.status, code, message[:MAX_MESSAGE_CHARS], retry_after(response.headers))


def _code_and_message(body: dict[str, Any]) -> tuple[str | None, str]:
    error = body.get("error")
    if isinstance(error, dict):
        code, reason = error.get("type"), error.get("reason")
        return code if isinstance(code, str) else None, str(reason or "")
    return None, str(error or body.get("message") or body.get("Message") or "")
