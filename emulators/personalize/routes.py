"""The HTTP routes: an aiohttp application with the wire protocol of Amazon Personalize."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from emulators import errors
from emulators.browsers import refuse_foreign
from emulators.errors import ServiceError
from emulators.faults import InvalidPlan, Plan, read_plan
from emulators.personalize.control import kinds
from emulators.personalize.server import (
    CONTROL_PATH,
    IMPORTED,
    ConnectionDropped,
    Operation,
    Service,
)
from emulators.personalize.signature import SignedRequest

log = logging.getLogger(__name__)

# More than ten items of 32,000 characters of up to 12 bytes of JSON.
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_ROWS = 10_000
DEFAULT_ROWS = 1_000


def create_application(service: Service) -> web.Application:
    """The operations of the service, and the routes below `/_local/` for tests and tools."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[refuse_foreign])
    for operation in service.operations:
        if operation.path != CONTROL_PATH:
            app.router.add_post(operation.path, _operation_handler(service, operation))
    app.router.add_post(CONTROL_PATH, _control_handler(service))
    app.router.add_get("/_local/health", _health)
    app.router.add_get("/_local/stats", _json_handler(service.stats))
    for name in ("events", "ignored", "users", "items", *IMPORTED):
        app.router.add_get(f"/_local/{name}", _page_handler(service, name))
    app.router.add_get("/_local/faults", _json_handler(service.fault_report))
    replace_faults = _replace_faults_handler(service)
    app.router.add_put("/_local/faults", replace_faults)
    app.router.add_delete("/_local/faults", replace_faults)
    app.router.add_route("*", "/{path:.*}", _unknown)
    return app


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _operation_handler(service: Service, operation: Operation) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge as error:
                message = f"The body is larger than {MAX_BODY_BYTES} bytes."
                raise ServiceError("RequestEntityTooLarge", message, 413) from error
            signed = SignedRequest(
                method=request.method,
                path=request.path,
                query=tuple(request.query.items()),
                header=request.headers.get,
                body=body,
            )
            answer = await service.answer(operation, signed)
        except ServiceError as error:
            return _error_response(error)
        except ConnectionDropped:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)  # not sent: the connection is closed
        except Exception:
            log.exception("%s failed", operation.name)
            return _error_response(ServiceError(*errors.FAULTS["error500"]))
        return web.Response(body=answer, headers=_headers())

    return handle


def _control_handler(service: Service) -> _Handler:
    """The operation is in the header X-Amz-Target: `AmazonPersonalize.CreateSchema`."""
    prefix = kinds.target_prefix()
    handlers = {
        f"{prefix}.{operation.name}": _operation_handler(service, operation)
        for operation in service.operations
        if operation.path == CONTROL_PATH
    }

    async def handle(request: web.Request) -> web.StreamResponse:
        target = request.headers.get("X-Amz-Target", "")
        handler = handlers.get(target)
        if handler is None:
            return _error_response(errors.unknown_operation(request.method, target or "/"))
        return await handler(request)

    return handle


def _page_handler(service: Service, name: str) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            after = int(request.query.get("after", "0"))
            limit = int(request.query.get("limit", str(DEFAULT_ROWS)))
        except ValueError:
            return _bad_request("'after' and 'limit' must be whole numbers")
        if not 0 <= after < 2**63 or not 1 <= limit <= MAX_ROWS:
            return _bad_request(f"'after' must be 0 or more, 'limit' from 1 to {MAX_ROWS}")
        group = service.find_group(request.query.get("group"))
        if group is None:
            return _bad_request(f"the dataset group '{request.query['group']}' does not exist")
        body = await service.page(group, name, after, limit)
        return web.Response(body=body, content_type="application/x-ndjson", charset="utf-8")

    return handle


def _json_handler(document: Callable[[], dict[str, Any]]) -> _Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response(document())

    return handle


def _replace_faults_handler(service: Service) -> _Handler:
    names = [operation.name for operation in service.operations]

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            is_put = request.method == "PUT"
            plan = read_plan(await request.read(), names) if is_put else Plan()
        except InvalidPlan as error:
            return _bad_request(str(error))
        service.use_faults(plan)
        return web.json_response(service.fault_report())

    return handle


async def _health(_: web.Request) -> web.StreamResponse:
    # The port is opened once the stored data is loaded, so any response means ready.
    return web.json_response({"status": "ready"})


async def _unknown(request: web.Request) -> web.StreamResponse:
    return _error_response(errors.unknown_operation(request.method, request.path))


def _error_response(error: ServiceError) -> web.Response:
    document = {"__type": error.code, "message": error.message}
    headers = {**_headers(), "x-amzn-ErrorType": error.code}
    return web.Response(status=error.status, body=json.dumps(document).encode(), headers=headers)


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json", "x-amzn-RequestId": str(uuid.uuid4())}


def _bad_request(message: str) -> web.Response:
    return web.json_response({"message": message}, status=400)
