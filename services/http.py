"""HTTP events of Amazon API Gateway and their answers, errors included.

The format is payload version 2.0 of HTTP APIs ("Create AWS Lambda proxy integrations for HTTP
APIs", API Gateway developer guide). An error's body is
``{"error": {"reason", "message", "field"}}``.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import unquote

from services.records import NOT_JSON, InvalidInput

Event = Mapping[str, Any]
Answer = dict[str, Any]
"""What a handler returns to API Gateway: statusCode, headers, body."""

_log = logging.getLogger(__name__)


class Problem(Exception):
    """An error answer: status, reason (machine-readable), message, field."""

    def __init__(
        self, status: HTTPStatus, reason: str, message: str, field: str | None = None
    ) -> None:
        super().__init__(status, reason, message, field)
        self.status = status
        self.reason = reason
        self.message = message
        self.field = field


class Unavailable(Exception):
    """A server that the handler needs does not answer; the caller may retry."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request: ``/{domain}`` or ``/{domain}/{id}``."""

    method: str
    domain: str
    id: str | None
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body; raises InvalidInput when it is not JSON."""
        try:
            return json.loads(self.body.decode(), parse_constant=_reject_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(NOT_JSON, f"the body is not JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer before its encoding: a status, and the content of its JSON body."""

    status: HTTPStatus
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def request_of(event: Event) -> Request:
    """The request in an event; raises InvalidInput for a body that is not base64."""
    method = event["requestContext"]["http"]["method"].upper()
    parameters = event.get("pathParameters") or {}
    segments = event.get("rawPath", "").removeprefix("/").split("/", 1)
    domain = parameters.get("domain") or segments[0]
    identity = parameters.get("id")
    if identity is None and len(segments) > 1 and segments[1]:
        identity = unquote(segments[1])
    return Request(
        method=method,
        domain=domain,
        id=identity,
        headers={str(name).lower(): value for name, value in (event.get("headers") or {}).items()},
        body=_body(event),
    )


def respond(serve: Callable[[Request], Response], event: Event) -> Answer:
    """Answer an event; an exception becomes an error answer with its message."""
    try:
        response = serve(request_of(event))
    except InvalidInput as error:
        response = _error(HTTPStatus.BAD_REQUEST, error.reason, error.message, error.field)
    except Problem as problem:
        response = _error(problem.status, problem.reason, problem.message, problem.field)
    except Unavailable as error:
        _log.warning("unavailable: %s", error)
        response = _error(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", str(error))
    except Exception:  # noqa: BLE001  # the caller gets an answer in any case
        _log.exception("a request failed")
        response = _error(
            HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the request failed; see the log"
        )
    return _answer(response)


def not_allowed(*methods: str) -> NoReturn:
    """Raise the Problem of an unsupported method."""
    raise Problem(
        HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"allowed: {', '.join(methods)}"
    )


def _error(status: HTTPStatus, reason: str, message: str, field: str | None = None) -> Response:
    headers = {"retry-after": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    body = {"error": {"reason": str(reason), "message": message, "field": field}}
    return Response(status, body, headers)


def _answer(response: Response) -> Answer:
    answer: Answer = {"statusCode": int(response.status), "headers": dict(response.headers)}
    if response.body is not None:
        answer["headers"]["content-type"] = "application/json"
        answer["body"] = json.dumps(response.body, separators=(",", ":"))
    return answer


def _body(event: Event) -> bytes:
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(text).encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidInput(NOT_JSON, f"the body is not base64: {error}") from None


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
