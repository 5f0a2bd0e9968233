"""Signed JSON calls on a pool of kept-alive connections.

botocore makes a request in a millisecond or more of Python and blocks a thread for it. This uses
botocore's credential chain, signs by itself (a test compares the signature with botocore's) and
leaves the rest out. Retries are the sink engine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from connectors.aws.credentials import CredentialSource
from connectors.aws.signature import Signature
from connectors.http import MAX_MESSAGE_CHARS, Answer, HttpPool, NoAnswer, Response, retry_after

JSON: Final = MappingProxyType({"Content-Type": "application/json"})
"""Headers of a service with the protocol `rest-json`, such as Personalize, and of OpenSearch."""


def json_target(target: str) -> dict[str, str]:
    """Headers of a service with the protocol `json` 1.1, such as Firehose.

    `target` is `<targetPrefix of the service model>.<operation>`.
    """
    return {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}


class JsonClient(Protocol):
    """What a destination requires of a client."""

    async def post(self, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        """The answer to one call, and the generation of the credentials that signed it."""

    async def renew_credentials(self, refused: int) -> None: ...

    async def close(self) -> None: ...


class SignedJsonClient:
    """Sends bodies, signed with Signature Version 4, to one endpoint.

    `signing_name` is the service's in its model (`signingName`, else `endpointPrefix`); `headers`
    are sent with every call, signed; `read` makes an answer of a response. `connections` bounds the
    pool; `request_timeout` is for a complete call, in seconds. Belongs to the event loop on which
    it is first used.
    """

    def __init__(
        self,
        *,
        endpoint_url: str,
        region: str,
        signing_name: str,
        credentials: CredentialSource,
        connections: int,
        request_timeout: float,
        headers: Mapping[str, str] = JSON,
        read: Callable[[Response], Answer] | None = None,
    ) -> None:
        self._pool = HttpPool(
            endpoint_url=endpoint_url, connections=connections, request_timeout=request_timeout
        )
        self._region = region
        self._signing_name = signing_name
        self._credentials = credentials
        self._headers = dict(headers)
        self._read = read or read_answer
        self._signatures: dict[tuple[str, str], Signature] = {}

    async def post(self, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        """The answer, or why there is none, and the generation of the credentials used.

        Raises NoCredentialsError when there is nothing to sign with.
        """
        return await self.request("POST", path, body)

    async def request(self, method: str, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        """As `post`, with another method."""
        credentials = await self._credentials.current()
        signature = self._signatures.get((method, path))
        if signature is None:
            signature = self._signatures[method, path] = Signature(
                method=method,
                url=self._pool.url(path),
                service=self._signing_name,
                region=self._region,
                headers=self._headers,
            )
        headers = signature.headers(credentials.keys, body, time.time())
        response = await self._pool.request(method, path, body, headers)
        answer = response if isinstance(response, NoAnswer) else self._read(response)
        return answer, credentials.generation

    async def renew_credentials(self, refused: int) -> None:
        await self._credentials.renew(refused)

    async def close(self) -> None:
        await self._pool.close()


def read_answer(response: Response) -> Answer:
    """The answer in a response of an AWS service with a JSON protocol.

    The error code is in the header x-amzn-errortype (`Code:http://...`) or in the body's `__type`
    (`namespace#Code`) or `code`.
    """
    if response.status < 300:
        return Answer(response.status, body=response.body)
    body = response.document()
    code = response.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code")
    message = body.get("message") or body.get("Message") or ""
    return Answer(
        response.status,
        bare_code(code) if isinstance(code, str) else None,
        str(message)[:MAX_MESSAGE_CHARS],
        retry_after(response.headers),
    )


def bare_code(code: str) -> str | None:
    """`Code` of `namespace#Code` and of `Code:http://...`."""
    return code.split(":", 1)[0].rsplit("#", 1)[-1].strip() or None
