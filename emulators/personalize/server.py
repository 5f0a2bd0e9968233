"""The service: handles calls, independent of HTTP.

The steps of a call: signature, injected faults, quota, the model's limits, the rules, then the
store or the recommender. The rules themselves are in pure modules.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import botocore.session

from emulators import errors
from emulators.errors import ServiceError
from emulators.faults import Faults, Plan, Rule, count_stored
from emulators.personalize import rules
from emulators.personalize.control import filters, kinds
from emulators.personalize.control.filtering import MAX_CANDIDATES, select_items
from emulators.personalize.control.group import Group
from emulators.personalize.control.operations import ControlPlane
from emulators.personalize.control.schemas import KINDS, Kind
from emulators.personalize.model import Scored
from emulators.personalize.quota import Quotas
from emulators.personalize.rules import RankingQuery, RecommendationQuery
from emulators.personalize.signature import AccessRules, SignedRequest, authorize
from emulators.personalize.store import Call, EventsCall, RecordsCall
from emulators.validation import Check, compile_check, violation_error

log = logging.getLogger(__name__)

SERVICES = ("personalize-events", "personalize-runtime")
CONTROL_PATH = "/"
"""The path of all operations of the control plane."""

IMPORTED: Mapping[str, Kind] = {f"imported/{kind.lower()}": kind for kind in KINDS.values()}


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the service model: its path and the check of its body."""

    name: str
    path: str
    check: Check


def load_operations() -> tuple[Operation, ...]:
    """The operations of personalize-events, personalize-runtime and personalize, from botocore."""
    session = botocore.session.get_session()
    operations = []
    for service in SERVICES:
        model = session.get_service_model(service)
        for name in model.operation_names:
            operation = model.operation_model(name)
            shape: Any = operation.input_shape
            operations.append(Operation(name, operation.http["requestUri"], compile_check(shape)))
    control = kinds.operations().values()
    operations += [Operation(entry.name, CONTROL_PATH, entry.check) for entry in control]
    return tuple(operations)


_Call = Callable[[dict[str, Any], Rule | None], Awaitable[bytes]]


class ConnectionDropped(Exception):
    """The connection must be closed without a response."""


class Service:
    """Handles the calls. Owned by one event loop."""

    def __init__(
        self,
        *,
        operations: tuple[Operation, ...],
        control: ControlPlane,
        quotas: Quotas,
        plan: Plan,
        access: AccessRules,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.operations = operations
        self._control = control
        self._state = control.state
        self._quotas = quotas
        self._access = access
        self._new_id = new_id
        self._now = now
        self._monotonic = monotonic
        self._stopping = asyncio.Event()
        self._started_at = now()
        self._faults = Faults(plan)
        self._calls = {operation.name: Counter[str]() for operation in operations}
        self._injected = {operation.name: Counter[str]() for operation in operations}
        self._handlers: Mapping[str, _Call] = {
            "PutEvents": self._put_events,
            "PutUsers": partial(self._put_records, "users"),
            "PutItems": partial(self._put_records, "items"),
            "GetRecommendations": self._get_recommendations,
            "GetPersonalizedRanking": self._get_personalized_ranking,
        }

    async def answer(self, operation: Operation, request: SignedRequest) -> bytes:
        """The body of the response; raises ServiceError, or ConnectionDropped for no response."""
        calls = self._calls[operation.name]
        calls["calls"] += 1
        try:
            body = await self._answer(operation, request)
        except ServiceError as error:
            if not error.injected:
                calls["throttled" if error.code == "ThrottlingException" else "refused"] += 1
            if operation.path == CONTROL_PATH and error.status in (404, 409):
                error.status = 400  # its protocol, JSON 1.1, distinguishes errors by code alone
            raise
        calls["succeeded"] += 1
        return body

    async def close(self) -> None:
        """Release held calls; returns when everything accepted is on disk."""
        self._stopping.set()
        await self._control.close()

    def release_held_calls(self) -> None:
        """Release the calls that a timeout or slow fault holds."""
        self._stopping.set()

    def stats(self) -> dict[str, Any]:
        """Counts of the dataset group that exists from the start, and of calls.

        Counts of stored data outlast a restart; counts of calls start with the process.

        `operations`: `calls` is the sum of `succeeded` (HTTP 200), `throttled` (by the quota),
        `refused` (other client errors) and calls that an injected fault failed; `faults` counts the
        injected faults by kind (a `slow` call may have any result). `groups`: the same counts for
        each dataset group, by name; `imported` counts imported rows.
        """
        group = self._state.default_group
        return {
            **group.stats(),
            "started_at": int(self._started_at * 1000),
            "model": group.deployed[group.resources.campaign].model.sizes(),
            "groups": {
                entry.resources.name: entry.stats() for entry in self._state.groups.values()
            },
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

    async def page(self, group: Group, name: str, after: int, limit: int) -> bytes:
        """NDJSON rows of a table, read in another thread."""
        kind = IMPORTED.get(name)
        if kind is not None:
            return await group.read(lambda _, bulk: bulk.page(kind, after, limit))
        return await group.read(lambda reader, _: reader.page(name, after, limit))

    def find_group(self, name: str | None) -> Group | None:
        """The dataset group with this name; for None the one that exists from the start."""
        if name is None:
            return self._state.default_group
        groups = self._state.groups.values()
        return next((group for group in groups if group.resources.name == name), None)

    def fault_report(self) -> dict[str, Any]:
        """The fault plan and its counts."""
        return self._faults.report()

    def use_faults(self, plan: Plan) -> None:
        """Replaces the fault plan and resets its counts."""
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
            raise ServiceError(*errors.FAULTS["throttle"])
        payload = rules.decode(request.body)
        violations = operation.check(payload)
        if violations:
            raise violation_error(violations)
        if operation.path == CONTROL_PATH:
            body = await self._control.answer(name, payload)
        elif name in self._handlers:
            body = await self._handlers[name](payload, fault)
        else:
            raise rules.actions_not_offered(name)
        if fault is not None and fault.kind != "slow":
            await self._fail(fault, name, key)
        return body

    async def _fail(self, fault: Rule, operation: str, access_key: str) -> None:
        if fault.kind == "timeout":
            await self._hold(fault.seconds)
            raise ConnectionDropped
        if fault.kind == "disconnect":
            raise ConnectionDropped
        if fault.kind == "access_denied":
            error = errors.access_denied(operation, access_key)
        else:
            # Of a partial call, too, the client cannot know the result.
            kind = "error500" if fault.kind == "partial" else fault.kind
            error = ServiceError(*errors.FAULTS[kind])
        error.injected = True
        raise error

    async def _hold(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _put_events(self, payload: dict[str, Any], fault: Rule | None) -> bytes:
        group = self._state.find_group_by_tracker(payload["trackingId"])
        events = rules.parse_events(payload, group.resources, self._new_id)
        if fault is not None and fault.kind == "partial":
            events = events[: count_stored(fault, len(events))]
        ignored = payload["sessionId"] == rules.IGNORED_SESSION
        await self._commit(group, EventsCall(events, ignored))
        return b""

    async def _put_records(
        self, kind: rules.RecordKind, payload: dict[str, Any], fault: Rule | None
    ) -> bytes:
        group = self._state.find_group_by_dataset(payload["datasetArn"])
        records = tuple(rules.parse_records(payload, kind, group.resources))
        if fault is not None and fault.kind == "partial":
            records = records[: count_stored(fault, len(records))]
        await self._commit(group, RecordsCall(kind, records))
        return b""

    async def _get_recommendations(self, payload: dict[str, Any], _: Rule | None) -> bytes:
        campaigns = self._state.campaigns()
        query = rules.parse_recommendation_query(payload, campaigns)
        group = campaigns[query.campaign]
        model = group.deployed[query.campaign].model
        if query.filter is None:
            return self._item_list("itemList", model.recommend(query.user_id, query.count))
        candidates = model.recommend(query.user_id, MAX_CANDIDATES)
        scored = await self._apply_filter(group, query, candidates)
        return self._item_list("itemList", scored[: query.count])

    async def _get_personalized_ranking(self, payload: dict[str, Any], _: Rule | None) -> bytes:
        campaigns = self._state.campaigns()
        query = rules.parse_ranking_query(payload, campaigns)
        group = campaigns[query.campaign]
        ranked = group.deployed[query.campaign].model.rank(query.user_id, query.items)
        if query.filter is not None:
            ranked = await self._apply_filter(group, query, ranked)
        return self._item_list("personalizedRanking", ranked)

    async def _apply_filter(
        self, group: Group, query: RecommendationQuery | RankingQuery, scored: list[Scored]
    ) -> list[Scored]:
        parsed = self._find_filter(group, str(query.filter))
        items = [item.item_id for item in scored]
        selected = set(
            await group.read(
                lambda reader, bulk: select_items(
                    parsed, query.filter_values, query.user_id, items, reader, bulk
                )
            )
        )
        return [item for item in scored if item.item_id in selected]

    def _find_filter(self, group: Group, arn: str) -> filters.Filter:
        resource = self._state.find_active(arn, "Filter")
        if self._state.groups[resource.parent] is not group:
            raise errors.invalid_input(f"The filter {arn} belongs to another dataset group.")
        return self._state.parse_filter(resource.document["filterExpression"], resource.parent)

    def _item_list(self, name: str, items: list[Scored]) -> bytes:
        document = {
            name: [{"itemId": item.item_id, "score": item.score} for item in items],
            "recommendationId": f"RID-{self._new_id()}",  # 40 characters, the maximum in an event
        }
        return json.dumps(document).encode()

    async def _commit(self, group: Group, call: Call) -> None:
        try:
            await group.write(call)
        except Exception as error:
            log.exception("a call could not be stored; the response is InternalFailure")
            raise ServiceError(*errors.FAULTS["error500"]) from error
