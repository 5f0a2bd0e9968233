"""A proxy in front of OpenSearch that fails on demand, by the fault plans of the emulators.

The operation is "Bulk", a POST to `_bulk`; all other calls are passed on. The kinds
(emulators/faults.py) and their responses:

    throttle         429, rejected_execution_exception
    error500         500, without an exception's type
    error503         503, unavailable_shards_exception
    access_denied    403, security_exception
    timeout, disconnect, slow    as in the emulators
    partial          some documents are not passed on: each has 429 or 503 in the response
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from deploy.local.settings import HOST
from emulators.faults import Faults, Plan, Rule, parse_plan

T = TypeVar("T")

OPERATION = "Bulk"
KINDS = (
    "throttle",
    "error500",
    "error503",
    "access_denied",
    "timeout",
    "disconnect",
    "slow",
    "partial",
)

MAX_BODY_BYTES = 64 * 1024 * 1024

_THROTTLED = (429, "rejected_execution_exception", "rejected execution of coordinating operation")
_NO_SHARD = (503, "unavailable_shards_exception", "primary shard is not active")
_ERRORS: Mapping[str, tuple[int, str | None, str]] = {
    "throttle": _THROTTLED,
    "error500": (500, None, "internal server error"),
    "error503": _NO_SHARD,
    "access_denied": (403, "security_exception", "no permissions for [indices:data/write/bulk]"),
}


def split_documents(body: bytes) -> list[bytes]:
    """Return the two lines of each document of a bulk call that only indexes."""
    lines = body.splitlines(keepends=True)
    return [lines[n] + lines[n + 1] for n in range(0, len(lines), 2)]


def failed_item(position: int) -> dict[str, Any]:
    """Return the response's item for a failed document; 429 and 503 alternate."""
    status, name, reason = _NO_SHARD if position % 2 else _THROTTLED
    return {"index": {"status": status, "error": {"type": name, "reason": reason}}}


def merge(answer: Mapping[str, Any], failed: frozenset[int], count: int) -> dict[str, Any]:
    """Return the response to a call of `count` documents, of which those at `failed` failed.

    `answer` is the response of OpenSearch to the others.
    """
    others = iter(answer["items"])
    items = [failed_item(n) if n in failed else next(others) for n in range(count)]
    return {**answer, "errors": True, "items": items}


class OpenSearchProxy:
    """Listens on a port of the loopback interface, in a thread of its own."""

    def __init__(self, upstream: str, port: int) -> None:
        self.url = f"http://{HOST}:{port}"
        self._upstream = upstream
        self._port = port
        self._faults = Faults(Plan())
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Start to listen; connections are refused before."""
        self._run(self._open())

    def stop(self) -> None:
        """Stop listening, and close all connections."""
        self._run(self._stop())

    def close(self) -> None:
        """Stop, and end the thread."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def put(self, plan: Mapping[str, Any]) -> None:
        """Set the plan; raises InvalidPlan."""
        self._faults = Faults(parse_plan(dict(plan), (OPERATION,), KINDS))

    def clear(self) -> None:
        """Remove the plan."""
        self._faults = Faults(Plan())

    def report(self) -> list[dict[str, Any]]:
        """Return the rules of the plan, each with how often it `fired`."""
        rules: list[dict[str, Any]] = self._faults.report()["rules"]
        return rules

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port, reuse_address=True).start()

    async def _stop(self) -> None:
        if self._runner is not None and self._session is not None:
            await self._runner.cleanup()
            await self._session.close()
        self._runner = self._session = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        bulk = request.method == "POST" and request.path.endswith("/_bulk")
        faults = self._faults
        rule = faults.decide(OPERATION, time.time()) if bulk else None
        if rule is None:
            return await self._forward(request, body)
        if rule.kind == "slow":
            await asyncio.sleep(rule.seconds)
            return await self._forward(request, body)
        if rule.kind == "partial":
            documents = split_documents(body)
            failed = faults.draw_failed(rule, len(documents))
            return await self._forward_some(request, documents, failed)
        if rule.after_write:
            await self._forward(request, body)
        return await self._fail(request, rule)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        assert self._session is not None
        names = ("Content-Type", "Authorization")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        headers["Accept-Encoding"] = "identity"
        url = f"{self._upstream}{request.raw_path}"
        try:
            async with self._session.request(
                request.method, URL(url, encoded=True), data=body, headers=headers
            ) as answer:
                return web.Response(
                    status=answer.status,
                    body=await answer.read(),
                    headers={"Content-Type": answer.headers.get("Content-Type", "text/plain")},
                )
        except aiohttp.ClientError:
            return _drop_connection(request)

    async def _forward_some(
        self, request: web.Request, documents: Sequence[bytes], failed: frozenset[int]
    ) -> web.Response:
        others = [document for n, document in enumerate(documents) if n not in failed]
        answer: dict[str, Any] = {"errors": False, "items": []}
        if others:
            response = await self._forward(request, b"".join(others))
            if response.status != 200:
                return response
            assert isinstance(response.body, bytes)
            answer = json.loads(response.body)
        return web.json_response(merge(answer, failed, len(documents)))

    async def _fail(self, request: web.Request, rule: Rule) -> web.Response:
        if rule.kind == "timeout":
            await asyncio.sleep(rule.seconds)
        if rule.kind in ("timeout", "disconnect"):
            return _drop_connection(request)
        status, name, reason = _ERRORS[rule.kind]
        error = {"type": name, "reason": reason} if name else reason
        return web.json_response({"error": error, "status": status}, status=status)


def _drop_connection(request: web.Request) -> web.Response:
    """Close the connection; the response is not sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
