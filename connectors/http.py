"""HTTP calls on a pool of kept-alive connections.

A failure of the network is a value, of which a destination makes an outcome. Retries are the sink
engine's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from schemas.errors import SettingError

MAX_MESSAGE_CHARS = 2_000
"""Characters of an error message that are kept, so that dead letters stay small."""

_MAX_RETRY_AFTER = 300.0
"""Seconds. A longer Retry-After is more likely a mistake."""


@dataclass(frozen=True, slots=True)
class Response:
    """A raw answer; the names of `headers` are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object; an empty one if it is none."""
        try:
            body = json.loads(self.body)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a service. `code` is its error code, None without one."""

    status: int
    code: str | None = None
    message: str = ""
    retry_after: float | None = None
    """Seconds."""
    body: bytes = b""
    """Of a success; empty for an error, which has a code and a message."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No answer: connection refused or reset, timed out, no such host."""

    reason: str


class HttpPool:
    """Connections to one endpoint.

    `connections` bounds the pool; `request_timeout` is for a complete call, in seconds. Belongs to
    the event loop on which it is first used. Raises SettingError for an endpoint that is no HTTP
    URL.
    """

    def __init__(self, *, endpoint_url: str, connections: int, request_timeout: float) -> None:
        base = URL(endpoint_url)
        if base.scheme not in ("http", "https") or not base.host:
            expected = "one such as https://service.example.com or http://127.0.0.1:8080"
            raise SettingError("the endpoint URL", endpoint_url, expected)
        self._base = endpoint_url.rstrip("/")
        self._connections = connections
        self._request_timeout = request_timeout
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    def url(self, path: str) -> URL:
        """The URL of a path, which is percent-encoded and may have a query."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base + path, encoded=True)
        return url

    async def request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Response | NoAnswer:
        """The complete answer to one call, or why there is none.

        A redirection is an answer: if it was followed, a POST would become a GET, and a page with
        status 200 would count as a delivery.
        """
        try:
            async with self._open().request(
                method, self.url(path), data=body, headers=headers, allow_redirects=False
            ) as response:
                return Response(response.status, response.headers, await response.read())
        except TimeoutError:
            return NoAnswer(f"no answer within {self._request_timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            # Connection refused or reset, no such host, TLS failure, a torn response.
            return NoAnswer(f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=self._request_timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "tunemesh"},
                # Answers are empty or short: compression costs more than it saves.
                skip_auto_headers=("Accept-Encoding",),
            )
        return self._session


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After as seconds; no service sends its other form, a date."""
    value = headers.get("Retry-After")
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return min(seconds, _MAX_RETRY_AFTER) if seconds is not None and seconds >= 0 else None
