"""The HTTP side: one aiohttp application that answers as Amazon Personalize does.

A call goes through: signature, injected faults, quota, the model's limits, the rules, and then the
store or the recommender. Nothing here decides what is valid; the pure modules beside it do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import botocore.session
from aiohttp import web

from deploy.local.personalize import errors, rules
from deploy.local.personalize.commits import GroupCommit
from deploy.local.personalize.errors import ServiceError
from deploy.local.personalize.faults import Faults, InvalidPlan, Plan, Rule, kept, parse_plan
from deploy.local.personalize.model import Recommender, Scored, preference
from deploy.local.personalize.quota import Quotas
from deploy.local.personalize.rules import Resources
from deploy.local.personalize.signature import AccessRules, SignedRequest, authorize
from deploy.local.personalize.store import (
    Call,
    EventsCall,
    RecordsCall,
    Store,
    StoreReader,
    Written,
)
from deploy.local.personalize.validation import Check, compile_check, refuse

log = logging.getLogger(__name__)

SERVICES = ("personalize-events", "personalize-runtime")
# Ten items of 32,000 characters, each of up to 12 bytes in the worst JSON, and room to spare.
LARGEST_BODY = 8 * 1024 * 1024
MOST_ROWS = 10_000
DEFAULT_ROWS = 1_000

_FAULT_ERRORS: Mapping[str, Callable[[], ServiceError]] = {
    "throttle": errors.throttled,
    "error500": errors.internal_failure,
    "error503": errors.unavailable,
    "in_use": errors.in_use,
    "expired_token": errors.expired_token,
    "unrecognized_client": errors.unrecognized_client,
    "partial": errors.internal_failure,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the service model: where it is called, and the check of its body."""

    name: str
    path: str
    check: Check


def load_operations() -> tuple[Operation, ...]:
    """All operations of personalize-events and personalize-runtime, from botocore's data files."""
    session = botocore.session.get_session()
    found = []
    for service in SERVICES:
        model = session.get_service_model(service)
        for name in model.operation_names:
            operation = model.operation_model(name)
            shape: Any = operation.input_shape
            found.append(Operation(name, operation.http["requestUri"], compile_check(shape)))
    return tuple(found)


class _Dropped(Exception):
    """The connection is to be closed without an answer."""


class Service:
    """The calls, independent of how they came in. Owned by one event loop."""

    def __init__(
        self,
        *,
        operations: tuple[Operation, ...],
        resources: Resources,
        store: Store,
        reader: StoreReader,
        quotas: Quotas,
        plan: Plan,
        access: AccessRules,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.operations = operations
        self._resources = resources
        self._reader = reader
        self._quotas = quotas
        self._access = access
        self._new_id = new_id
        self._now = now
        self._monotonic = monotonic
        self._stopping = asyncio.Event()
        self._started_at = now()
        self._faults = Faults(plan)
        self._model = Recommender()
        self._totals = reader.totals()
        self._calls = {operation.name: Counter[str]() for operation in operations}
        self._injected = {operation.name: Counter[str]() for operation in operations}
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._commits = GroupCommit(
            lambda calls: store.write(calls, int(self._now() * 1000)), self._applied
        )
        self._handlers: Mapping[str, Callable[[dict[str, Any], Rule | None], Awaitable[bytes]]] = {
            "PutEvents": self._put_events,
            "PutUsers": self._put_users,
            "PutItems": self._put_items,
            "GetRecommendations": self._get_recommendations,
            "GetPersonalizedRanking": self._get_personalized_ranking,
        }

    def rebuild_model(self, every: Callable[[int], None] = lambda done: None) -> None:
        """Feeds the model with everything stored; calls `every` after each 100,000 events."""
        for item_id in self._reader.item_ids():
            self._model.add_item(item_id)
        for number, row in enumerate(self._reader.interactions(), start=1):
            weight = preference(row.event_type, row.event_value)
            at_ms = min(row.sent_at, row.accepted_at)
            self._model.observe(row.listener, row.item_id, weight, at_ms)
            if number % 100_000 == 0:
                every(number)

    async def answer(self, operation: Operation, request: SignedRequest) -> bytes:
        """The body of the 200 answer; raises ServiceError, or _Dropped for no answer at all."""
        calls = self._calls[operation.name]
        calls["calls"] += 1
        try:
            body = await self._answer(operation, request)
        except ServiceError as error:
            if not error.injected:
                calls["throttled" if error.code == "ThrottlingException" else "refused"] += 1
            raise
        calls["succeeded"] += 1
        return body

    async def close(self) -> None:
        """Ends held calls, and returns when everything accepted is on disk."""
        self._stopping.set()
        await self._commits.close()
        self._readers.shutdown()

    def stop_holding(self) -> None:
        """Lets go of the calls that a timeout or slow fault holds."""
        self._stopping.set()

    def stats(self) -> dict[str, Any]:
        """Counts. Those of what is stored outlive a restart; those of calls begin with the process.

        `operations`: `calls` is the sum of `succeeded` (HTTP 200), `throttled` (by the quota),
        `refused` (any other error of the client's making) and those that an injected fault failed;
        `faults` counts the faults injected by kind (a `slow` one may end in any of these).
        """
        totals = self._totals
        return {
            "accepted_events": totals.events,
            "duplicates_ignored": totals.duplicates,
            "identical_ignored": totals.identical,
            "ignored_null_session": totals.null_session,
            "users": totals.users,
            "items": totals.items,
            "started_at": int(self._started_at * 1000),
            "model": self._model.sizes(),
            "operations": {
                name: {
                    "calls": calls["calls"],
                    "succeeded": calls["succeeded"],
                    "throttled": calls["throttled"],
                    "refused": calls["refused"],
                    "faults": dict(self._injected[name]),
                }
                for name, calls in self._calls.items()
            },
        }

    async def page(self, name: str, after: int, limit: int) -> bytes:
        """NDJSON rows of a table, read in another thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._reader.page, name, after, limit)

    def fault_report(self) -> dict[str, Any]:
        """The fault plan and its counts."""
        return self._faults.report()

    def use_faults(self, plan: Plan) -> None:
        """Replaces the fault plan; its counts begin at 0."""
        self._faults = Faults(plan)

    async def _answer(self, operation: Operation, request: SignedRequest) -> bytes:
        name = operation.name
        key = authorize(request, name, self._access, datetime.fromtimestamp(self._now(), UTC))
        fault = self._faults.decide(name, self._now())
        if fault is not None:
            self._injected[name][fault.kind] += 1
            if not fault.after_write and fault.kind not in ("partial", "slow"):
                await self._fail(fault, name, key)
            if fault.kind == "slow":
                await self._hold(fault.seconds)
        if not self._quotas.allow(name, self._monotonic()):
            raise errors.throttled()
        payload = rules.decode(request.body)
        violations = operation.check(payload)
        if violations:
            raise refuse(violations)
        handler = self._handlers.get(name)
        if handler is None:
            raise rules.actions_not_offered(name)
        partial = fault if fault is not None and fault.kind == "partial" else None
        body = await handler(payload, partial)
        if fault is not None and fault.kind != "slow":
            await self._fail(fault, name, key)
        return body

    async def _fail(self, fault: Rule, operation: str, access_key: str) -> None:
        if fault.kind == "timeout":
            await self._hold(fault.seconds)
            raise _Dropped
        if fault.kind == "disconnect":
            raise _Dropped
        if fault.kind == "access_denied":
            error = errors.access_denied(operation, access_key)
        else:
            error = _FAULT_ERRORS[fault.kind]()
        error.injected = True
        raise error

    async def _hold(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _put_events(self, payload: dict[str, Any], partial: Rule | None) -> bytes:
        events = rules.events(payload, self._resources, self._new_id)
        if partial is not None:
            events = events[: kept(partial, len(events))]
        ignored = payload["sessionId"] == rules.IGNORED_SESSION
        await self._commit(EventsCall(events, ignored))
        return b""

    async def _put_users(self, payload: dict[str, Any], partial: Rule | None) -> bytes:
        return await self._put_records(payload, "users", partial)

    async def _put_items(self, payload: dict[str, Any], partial: Rule | None) -> bytes:
        return await self._put_records(payload, "items", partial)

    async def _put_records(
        self, payload: dict[str, Any], kind: rules.RecordKind, partial: Rule | None
    ) -> bytes:
        records = tuple(rules.records(payload, kind, self._resources))
        if partial is not None:
            records = records[: kept(partial, len(records))]
        await self._commit(RecordsCall(kind, records))
        return b""

    async def _get_recommendations(self, payload: dict[str, Any], _: Rule | None) -> bytes:
        query = rules.recommendation_query(payload, self._resources)
        return self._item_list("itemList", self._model.recommend(query.user_id, query.count))

    async def _get_personalized_ranking(self, payload: dict[str, Any], _: Rule | None) -> bytes:
        query = rules.ranking_query(payload, self._resources)
        return self._item_list("personalizedRanking", self._model.rank(query.user_id, query.items))

    def _item_list(self, name: str, items: list[Scored]) -> bytes:
        document = {
            name: [{"itemId": item.item_id, "score": item.score} for item in items],
            "recommendationId": f"RID-{self._new_id()}",  # 40 characters, the most an event takes
        }
        return json.dumps(document).encode()

    async def _commit(self, call: Call) -> None:
        try:
            await self._commits.submit(call)
        except Exception as error:
            log.exception("a call could not be stored and was answered with InternalFailure")
            raise errors.internal_failure() from error

    def _applied(self, written: Written) -> None:
        self._totals.add(written)
        for item_id in written.items:
            self._model.add_item(item_id)
        for event in written.events:
            weight = preference(event.event_type, event.event_value)
            # A time in the future would make the item the most popular one for ever.
            at_ms = min(event.sent_at, written.accepted_at)
            self._model.observe(event.listener, event.item_id, weight, at_ms)


def application(service: Service) -> web.Application:
    """The routes: the operations of the service, and `/_local/` for tests and tools."""
    app = web.Application(client_max_size=LARGEST_BODY)
    for operation in service.operations:
        app.router.add_post(operation.path, _operation_handler(service, operation))
    app.router.add_get("/_local/health", _health)
    app.router.add_get("/_local/stats", _json_handler(service.stats))
    for name in ("events", "ignored", "users", "items"):
        app.router.add_get(f"/_local/{name}", _page_handler(service, name))
    app.router.add_get("/_local/faults", _json_handler(service.fault_report))
    app.router.add_put("/_local/faults", _put_faults_handler(service))
    app.router.add_delete("/_local/faults", _delete_faults_handler(service))
    app.router.add_route("*", "/{path:.*}", _unknown)
    return app


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _operation_handler(service: Service, operation: Operation) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge as error:
                raise errors.too_large(LARGEST_BODY) from error
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
        except _Dropped:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)  # goes nowhere: the connection is closed
        except Exception:
            log.exception("%s failed", operation.name)
            return _error_response(errors.internal_failure())
        return web.Response(body=answer, headers=_headers())

    return handle


def _page_handler(service: Service, name: str) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            after = int(request.query.get("after", "0"))
            limit = int(request.query.get("limit", str(DEFAULT_ROWS)))
        except ValueError:
            return _bad_request("'after' and 'limit' must be whole numbers")
        if not 0 <= after < 2**63 or not 1 <= limit <= MOST_ROWS:
            return _bad_request(f"'after' must be 0 or more, 'limit' from 1 to {MOST_ROWS}")
        body = await service.page(name, after, limit)
        return web.Response(body=body, content_type="application/x-ndjson", charset="utf-8")

    return handle


def _json_handler(document: Callable[[], dict[str, Any]]) -> _Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response(document())

    return handle


def _put_faults_handler(service: Service) -> _Handler:
    names = [operation.name for operation in service.operations]

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            plan = parse_plan(json.loads(await request.read()), names)
        except InvalidPlan as error:
            return _bad_request(str(error))
        except ValueError as error:
            return _bad_request(f"the body is not JSON: {error}")
        service.use_faults(plan)
        return web.json_response(service.fault_report())

    return handle


def _delete_faults_handler(service: Service) -> _Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        service.use_faults(Plan())
        return web.json_response(service.fault_report())

    return handle


async def _health(_: web.Request) -> web.StreamResponse:
    # The port is only opened once everything stored is loaded, so an answer means ready.
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
