"""Signed JSON calls on a pool of kept-alive connections.

botocore makes a request in a millisecond or more of Python and blocks a thread for it. This keeps
what must be right (the credential chain and the signature are botocore's own) and leaves the rest
out. No retries here: they are the sink engine's.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError
from yarl import URL

from connectors.personalize.classification import Answer, NoAnswer

SIGNING_NAME = "personalize"
"""Signing name of all Personalize services (their service models, `signingName`)."""

_LONGEST_MESSAGE = 2_000
"""Characters of an error message that are kept; the rest would only bloat dead letters."""

_LONGEST_RETRY_AFTER = 300.0
"""Seconds. A longer Retry-After is more likely a mistake than a wish."""


class NoCredentialsError(Exception):
    """The credential chain found nothing, or could not be read; the text is for people."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key to sign with. `generation` grows each time that the chain is read anew."""

    keys: ReadOnlyCredentials
    generation: int


class CredentialSource(Protocol):
    """Where keys come from."""

    async def current(self) -> Credentials:
        """Keys that are valid as far as is known. Raises NoCredentialsError."""

    async def renew(self, refused: int) -> None:
        """Reads the chain anew, unless that was done since the generation that was refused.

        Raises NoCredentialsError.
        """


class BotocoreCredentials:
    """botocore's chain: environment, profile, container or instance role; refreshed before it
    expires.

    Everything that can block (files, metadata services, STS) runs on a thread of its own, once for
    all callers that wait for it.
    """

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._source: Any = None
        self._current: Credentials | None = None
        self._generation = -1
        self._lock = asyncio.Lock()

    async def current(self) -> Credentials:
        if self._current is not None and not self._stale():
            return self._current
        async with self._lock:
            if self._current is None:
                await self._read_chain()
            elif self._stale():
                self._current = Credentials(
                    await self._on_thread(self._source.get_frozen_credentials), self._generation
                )
        assert self._current is not None
        return self._current

    async def renew(self, refused: int) -> None:
        async with self._lock:
            if self._generation == refused:
                await self._read_chain()

    def _stale(self) -> bool:
        # Only refreshable credentials can say; static ones have no end that we know of.
        refresh_needed = getattr(self._source, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed())

    async def _read_chain(self) -> None:
        def read() -> tuple[Any, ReadOnlyCredentials]:
            session = botocore.session.Session(profile=self._profile)
            source = session.get_credentials()
            if source is None:
                raise NoCredentialsError(
                    "No AWS credentials were found. Set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the application a role."
                )
            return source, source.get_frozen_credentials()

        self._source, keys = await self._on_thread(read)
        self._generation += 1
        self._current = Credentials(keys, self._generation)

    async def _on_thread(self, read: Any) -> Any:
        try:
            return await asyncio.to_thread(read)
        except BotoCoreError as error:
            raise NoCredentialsError(f"AWS credentials could not be read: {error}") from error


class JsonClient(Protocol):
    """What a destination needs of a client; tests bring their own."""

    async def post(self, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        """The answer to one call, and the generation of the credentials that signed it."""

    async def renew_credentials(self, refused: int) -> None: ...

    async def close(self) -> None: ...


class SignedJsonClient:
    """POSTs JSON bodies, signed with Signature Version 4, to one endpoint.

    `connections` bounds the pool; `request_timeout` is for a whole call, in seconds. Belongs to the
    event loop on which it is first used.
    """

    def __init__(
        self,
        *,
        endpoint_url: str,
        region: str,
        credentials: CredentialSource,
        connections: int,
        request_timeout: float,
    ) -> None:
        base = URL(endpoint_url)
        if base.scheme not in ("http", "https") or not base.host:
            raise ValueError(
                f"the endpoint URL is {endpoint_url!r}; expected something like "
                "https://personalize-events.us-east-1.amazonaws.com"
            )
        self._base = endpoint_url.rstrip("/")
        self._region = region
        self._credentials = credentials
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=request_timeout)
        self._request_timeout = request_timeout
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, tuple[str, URL]] = {}
        self._signer: tuple[Credentials, SigV4Auth] | None = None

    async def post(self, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        """The answer, or why there is none, and the generation of the credentials used.

        Raises NoCredentialsError when there is nothing to sign with.
        """
        credentials = await self._credentials.current()
        if path not in self._urls:
            self._urls[path] = (self._base + path, URL(self._base + path, encoded=True))
        text, url = self._urls[path]
        headers = self._sign(credentials, text, body)
        try:
            async with self._open().post(url, data=body, headers=headers) as response:
                content = await response.read()
                if response.status < 300:
                    return Answer(response.status), credentials.generation
                return _error_answer(
                    response.status, response.headers, content
                ), credentials.generation
        except TimeoutError:
            reason = f"no answer within {self._request_timeout:g} s"
        except (aiohttp.ClientError, OSError) as error:
            # Connection refused or reset, no such host, TLS failure, a torn response.
            reason = f"{type(error).__name__}: {error}"
        return NoAnswer(reason), credentials.generation

    async def renew_credentials(self, refused: int) -> None:
        await self._credentials.renew(refused)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _sign(self, credentials: Credentials, url: str, body: bytes) -> dict[str, str]:
        if self._signer is None or self._signer[0] is not credentials:
            self._signer = (
                credentials,
                SigV4Auth(credentials.keys, SIGNING_NAME, self._region),
            )
        request = AWSRequest("POST", url, headers={"Content-Type": "application/json"}, data=body)
        self._signer[1].add_auth(request)
        return dict(request.headers.items())

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "tunemesh"},
                # Answers are empty or a line: not worth unpacking.
                skip_auto_headers=("Accept-Encoding",),
            )
        return self._session


def personalize_events_endpoint(region: str) -> str:
    """The service's own endpoint URL in a region, from botocore's endpoint data (all partitions).

    As everywhere in the AWS SDKs, AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_PERSONALIZE_EVENTS in the
    environment come first. Loads botocore's service model, a few tenths of a second.
    """
    session = botocore.session.Session()
    try:
        session.get_partition_for_region(region)
        client = session.create_client("personalize-events", region_name=region)
    except (BotoCoreError, ValueError):
        raise ValueError(
            f"the region is {region!r}; expected the name of an AWS region, such as us-east-1"
        ) from None
    return str(client.meta.endpoint_url)


def _error_answer(status: int, headers: Any, content: bytes) -> Answer:
    """The error code is in the header x-amzn-errortype (`Code:http://...`) or in the body's
    `__type` (`namespace#Code`) or `code`."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    code = headers.get("x-amzn-errortype") or body.get("__type") or body.get("code")
    message = body.get("message") or body.get("Message") or ""
    return Answer(
        status,
        _bare_code(code) if isinstance(code, str) else None,
        str(message)[:_LONGEST_MESSAGE],
        _seconds(headers.get("Retry-After")),
    )


def _bare_code(code: str) -> str | None:
    return code.split(":", 1)[0].rsplit("#", 1)[-1].strip() or None


def _seconds(value: str | None) -> float | None:
    """Retry-After as seconds; its other form, a date, would need a clock, and no AWS service sends
    it."""
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return min(seconds, _LONGEST_RETRY_AFTER) if seconds is not None and seconds >= 0 else None
