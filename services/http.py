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
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import unquote

from schemas.invalid import Reason
from services.records import NOT_JSON, InvalidInput

Event = Mapping[str, Any]
Answer = dict[str, Any]
"""What a handler returns to API Gateway: statusCode, headers, body."""

_log = logging.getLogger(__name__)


class Problem(Exception):
    """An error answer: status, reason (machine-readable), message, field, headers."""

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, reason, message, field)
        self.status = status
        self.reason = reason
        self.message = message
        self.field = field
        self.headers = headers or {}


class Unavailable(Exception):
    """A server that the handler needs does not answer; the caller may retry.

    The text is for the log: it may name servers, accounts and roles.
    """


@dataclass(frozen=True, slots=True)
class Request:
    """A request: ``/{domain}`` or ``/{domain}/{id}``."""

    method: str
    domain: str
    id: str | None
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    authorizer: Mapping[str, Any] = field(default_factory=dict)
    """What an authoriser of the API has passed (:mod:`services.authorization`)."""
    acting_for: str | None = None
    """The only user that the caller may act for; None: any."""

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
    """The request in an event; raises InvalidInput for a body or path that cannot be decoded.

    Raises Problem for the event of payload version 1.0. The path of a stage other than $default
    begins with the stage.
    """
    context = event["requestContext"]
    if "http" not in context:
        raise Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "payload_version",
            "the integration sends payload version 1.0; set its payload format version to 2.0",
        )
    method = context["http"]["method"].upper()
    parameters = event.get("pathParameters") or {}
    path = event.get("rawPath", "")
    stage = context.get("stage", "$default")
    if stage != "$default" and path.startswith(f"/{stage}/"):
        path = path.removeprefix(f"/{stage}")
    segments = path.removeprefix("/").split("/", 1)
    domain = parameters.get("domain") or segments[0]
    identity = parameters.get("id")
    if identity is None and len(segments) > 1 and segments[1]:
        try:
            identity = unquote(segments[1], errors="strict")
        except UnicodeDecodeError:
            raise InvalidInput(
                Reason.INVALID_VALUE, "the path is not percent-encoded UTF-8", "path"
            ) from None
    return Request(
        method=method,
        domain=domain,
        id=identity,
        headers={str(name).lower(): value for name, value in (event.get("headers") or {}).items()},
        body=_body(event),
        authorizer=context.get("authorizer") or {},
    )


def not_found(event: Event) -> Answer:
    """Answer an event for which there is no handler."""

    def refuse(request: Request) -> NoReturn:
        raise Problem(
            HTTPStatus.NOT_FOUND, "not_found", f"there is no domain {request.domain!r}", "path"
        )

    return respond(refuse, event)


def respond(serve: Callable[[Request], Response], event: Event) -> Answer:
    """Answer an event; an exception becomes an error answer with its message."""
    is_head = False
    try:
        request = request_of(event)
        is_head = request.method == "HEAD"
        response = serve(replace(request, method="GET") if is_head else request)
    except InvalidInput as error:
        response = _error(HTTPStatus.BAD_REQUEST, error.reason, error.message, error.field)
    except Problem as problem:
        response = _error(
            problem.status, problem.reason, problem.message, problem.field, problem.headers
        )
    except Unavailable as error:
        _log.warning("unavailable: %s", error)
        response = _error(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "unavailable",
            "a server that the request needs does not answer; try again",
            headers={"retry-after": "1"},
        )
    except Exception:  # noqa: BLE001  # the caller gets an answer in any case
        _log.exception("a request failed")
        response = _error(
            HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the request failed; see the log"
        )
    return _answer(replace(response, body=None) if is_head else response)


def not_allowed(*methods: str) -> NoReturn:
    """Raise the Problem of an unsupported method."""
    allowed = ", ".join(methods)
    raise Problem(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method_not_allowed",
        f"allowed: {allowed}",
        headers={"allow": allowed},
    )


def _error(
    status: HTTPStatus,
    reason: str,
    message: str,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = {"error": {"reason": str(reason), "message": message, "field": field}}
    return Response(status, body, headers or {})


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
