"""The HTTP API in front of the handlers: converts requests to events by path and contracts.

As API Gateway does with the routes ``/{domain}`` and ``/{domain}/{id}`` of an HTTP API (payload
version 2.0).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from deploy.local.python_servers import HEALTH
from emulators.browsers import refuse_foreign
from schemas.model import Contracts, Role
from services import interactions, items, users
from services.http import not_found

MAX_BODY_BYTES = 10 * 1024 * 1024
"""API Gateway's quota for payloads."""

MAX_CONCURRENT = 32
"""The number of requests handled concurrently; others wait."""

Handler = Callable[[Mapping[str, Any], Any], dict[str, Any]]

HANDLERS: Mapping[Role, Handler] = {
    Role.USER: users.handler,
    Role.ITEM: items.handler,
    Role.INTERACTION: interactions.handler,
}


def _not_found(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    return not_found(event)


def handlers(contracts: Contracts) -> dict[str, Handler]:
    """Return the handler of each domain, by the first segment of its paths."""
    return {c.name: HANDLERS[c.role] for c in contracts if c.role in HANDLERS}


def event_of(method: str, raw_path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the event of a request; ``raw_path`` is percent-encoded, as it was sent.

    Raises UnicodeDecodeError for a path that is not UTF-8: replaced bytes would be another id.
    """
    domain, _, identity = raw_path.removeprefix("/").partition("/")
    parameters = {"domain": unquote(domain, errors="strict")}
    if identity:
        parameters["id"] = unquote(identity, errors="strict")
    try:
        text, encoded = body.decode(), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    return {
        "version": "2.0",
        "routeKey": "ANY /{domain}/{id}" if identity else "ANY /{domain}",
        "rawPath": unquote(raw_path),
        "rawQueryString": "",
        "headers": {name.lower(): value for name, value in headers.items()},
        "requestContext": {"http": {"method": method, "path": unquote(raw_path)}},
        "pathParameters": parameters,
        "body": text,
        "isBase64Encoded": encoded,
    }


def _error(status: int, reason: str, message: str) -> web.Response:
    """Return an error of the shape that the handlers' have (:mod:`services.http`)."""
    error = {"reason": reason, "message": message, "field": None}
    return web.json_response({"error": error}, status=status)


def application(contracts: Contracts) -> web.Application:
    """Return the HTTP application; handlers block, so each request has a thread."""
    routes = handlers(contracts)
    threads = ThreadPoolExecutor(MAX_CONCURRENT, thread_name_prefix="handler")

    async def answer(request: web.Request) -> web.Response:
        raw_path = request.raw_path.partition("?")[0]
        if raw_path == HEALTH:
            return web.json_response({"status": "ok"})
        try:
            event = event_of(request.method, raw_path, request.headers, await request.read())
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "too_large", f"the body is larger than {MAX_BODY_BYTES} bytes")
        except UnicodeDecodeError:
            return _error(400, "invalid_value", "the path is not percent-encoded UTF-8")
        handler = routes.get(event["pathParameters"]["domain"], _not_found)
        loop = asyncio.get_running_loop()
        answered = await loop.run_in_executor(threads, handler, event, None)
        return web.Response(
            status=answered["statusCode"],
            headers=answered["headers"],
            body=answered.get("body", "").encode(),
        )

    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[refuse_foreign])
    app.router.add_route("*", "/{path:.*}", answer)
    return app
