"""HTTP calls on a pool of kept-alive connections, and what can come back from one.

What goes wrong on the network is a value here, since a destination has to make an outcome of it. No
retries: they are the sink engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from schemas.errors import SettingError

MAX_MESSAGE_CHARS = 2_000
"""Characters of an error message that are kept; the rest would only bloat dead letters."""

_MAX_RETRY_AFTER = 300.0
"""Seconds. A longer Retry-After is more likely a mistake than a wish."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it came; the names of `headers` have no case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said. `code` is the service's error code, None when it gave none."""

    status: int
    code: str | None = None
    message: str = ""
    retry_after: float | None = None
    """Seconds."""
    body: bytes = b""
    """Of a success; empty for an error, whose code and message say it all."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing came back: refused, reset, timed out, no such host."""

    reason: str


class HttpPool:
    """Connections to one endpoint.

    `connections` bounds the pool; `request_timeout` is for a whole call, in seconds. Belongs to the
    event loop on which it is first used. Raises SettingError for an endpoint that is no HTTP URL.
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
        """The answer to one call, read to its end, or why there is none.

        A redirection is an answer: followed, a POST becomes a GET, and a page that says 200 would
        count as a delivery.
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
                # Answers are empty or short: not worth unpacking.
                skip_auto_headers=("Accept-Encoding",),
            )
        return self._session


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After as seconds; its other form, a date, would need a clock, and none of the services
    sends it."""
    value = headers.get("Retry-After")
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return min(seconds, _MAX_RETRY_AFTER) if seconds is not None and seconds >= 0 else None
