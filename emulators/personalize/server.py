"""The service: what becomes of a call, however it came in.

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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import botocore.session

from emulators import errors
from emulators.errors import ServiceError
from emulators.faults import Faults, Plan, Rule, count_stored
from emulators.personalize import rules
from emulators.personalize.control import filters, kinds, recommending
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
"""Where the operations of the control plane are called, all of them."""

IMPORTED: Mapping[str, Kind] = {f"imported/{kind.lower()}": kind for kind in KINDS.values()}
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
    """All operations of personalize-events, personalize-runtime and personalize, from botocore's
    data files."""
    session = botocore.session.get_session()
    found = []
    for service in SERVICES:
        model = session.get_service_model(service)
        for name in model.operation_names:
            operation = model.operation_model(name)
            shape: Any = operation.input_shape
            found.append(Operation(name, operation.http["requestUri"], compile_check(shape)))
    control = kinds.operations().values()
    return (*found, *(Operation(one.name, CONTROL_PATH, one.check) for one in control))


_Call = Callable[[dict[str, Any], Rule | None], Awaitable[bytes]]


class Dropped(Exception):
    """The connection is to be closed without an answer."""


class Service:
    """The calls, independent of how they came in. Owned by one event loop."""

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
            "PutUsers": self._put_users,
            "PutItems": self._put_items,
            "GetRecommendations": self._get_recommendations,
            "GetPersonalizedRanking": self._get_personalized_ranking,
        }

    async def answer(self, operation: Operation, request: SignedRequest) -> bytes:
        """The body of the 200 answer; raises ServiceError, or Dropped for no answer at all."""
        calls = self._calls[operation.name]
        calls["calls"] += 1
        try:
            body = await self._answer(operation, request)
        except ServiceError as error:
            if not error.injected:
                calls["throttled" if error.code == "ThrottlingException" else "refused"] += 1
            if operation.path == CONTROL_PATH and error.status in (404, 409):
                error.status = 400  # its protocol, JSON 1.1, tells errors apart by code alone
            raise
        calls["succeeded"] += 1
        return body

    async def close(self) -> None:
        """Ends held calls, and returns when everything accepted is on disk."""
        self._stopping.set()
        await self._control.close()

    def stop_holding(self) -> None:
        """Lets go of the calls that a timeout or slow fault holds."""
        self._stopping.set()

    def stats(self) -> dict[str, Any]:
        """Counts of the dataset group that exists from the start, and of calls.

        Those of what is stored outlive a restart; those of calls begin with the process.

        `operations`: `calls` is the sum of `succeeded` (HTTP 200), `throttled` (by the quota),
        `refused` (any other error of the client's making) and those that an injected fault failed;
        `faults` counts the faults injected by kind (a `slow` one may end in any of these).
        `groups`: the same of each dataset group, by name; `imported` counts rows that came in bulk.
        """
        group = self._state.default
        return {
            **group.stats(),
            "started_at": int(self._started_at * 1000),
            "model": group.deployed[group.resources.campaign].model.sizes(),
            "groups": {one.resources.name: one.stats() for one in self._state.groups.values()},
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

    def group_named(self, name: str | None) -> Group | None:
        """The dataset group with this name, the one that exists from the start for None."""
        if name is None:
            return self._state.default
        found = self._state.groups.values()
        return next((group for group in found if group.resources.name == name), None)

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
            raise violation_error(violations)
        if operation.path == CONTROL_PATH:
            handler = self._control_plane(name)
        elif name in self._handlers:
            handler = self._handlers[name]
        else:
            raise rules.actions_not_offered(name)
        partial = fault if fault is not None and fault.kind == "partial" else None
        body = await handler(payload, partial)
        if fault is not None and fault.kind != "slow":
            await self._fail(fault, name, key)
        return body

    async def _fail(self, fault: Rule, operation: str, access_key: str) -> None:
        if fault.kind == "timeout":
            await self._hold(fault.seconds)
            raise Dropped
        if fault.kind == "disconnect":
            raise Dropped
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

    def _control_plane(self, name: str) -> _Call:
        async def call(payload: dict[str, Any], _: Rule | None) -> bytes:
            return await self._control.answer(name, payload)

        return call

    async def _put_events(self, payload: dict[str, Any], partial: Rule | None) -> bytes:
        group = self._state.group_with_tracker(payload["trackingId"])
        events = rules.events(payload, group.resources, self._new_id)
        if partial is not None:
            events = events[: count_stored(partial, len(events))]
        ignored = payload["sessionId"] == rules.IGNORED_SESSION
        await self._commit(group, EventsCall(events, ignored))
        return b""

    async def _put_users(self, payload: dict[str, Any], partial: Rule | None) -> bytes:
        return await self._put_records(payload, "users", partial)

    async def _put_items(self, payload: dict[str, Any], partial: Rule | None) -> bytes:
        return await self._put_records(payload, "items", partial)

    async def _put_records(
        self, payload: dict[str, Any], kind: rules.RecordKind, partial: Rule | None
    ) -> bytes:
        group = self._state.group_with_dataset(payload["datasetArn"])
        records = tuple(rules.records(payload, kind, group.resources))
        if partial is not None:
            records = records[: count_stored(partial, len(records))]
        await self._commit(group, RecordsCall(kind, records))
        return b""

    async def _get_recommendations(self, payload: dict[str, Any], _: Rule | None) -> bytes:
        campaigns = self._state.campaigns()
        query = rules.recommendation_query(payload, campaigns)
        group = campaigns[query.campaign]
        model = group.deployed[query.campaign].model
        if query.filter is None:
            return self._item_list("itemList", model.recommend(query.user_id, query.count))
        candidates = model.recommend(query.user_id, recommending.CANDIDATES)
        found = await self._filtered(group, query, candidates)
        return self._item_list("itemList", found[: query.count])

    async def _get_personalized_ranking(self, payload: dict[str, Any], _: Rule | None) -> bytes:
        campaigns = self._state.campaigns()
        query = rules.ranking_query(payload, campaigns)
        group = campaigns[query.campaign]
        ranked = group.deployed[query.campaign].model.rank(query.user_id, query.items)
        if query.filter is not None:
            ranked = await self._filtered(group, query, ranked)
        return self._item_list("personalizedRanking", ranked)

    async def _filtered(
        self, group: Group, query: RecommendationQuery | RankingQuery, scored: list[Scored]
    ) -> list[Scored]:
        parsed = self._parsed_filter(group, str(query.filter))
        items = [one.item_id for one in scored]
        stay = set(
            await group.read(
                lambda reader, bulk: recommending.kept(
                    parsed, query.filter_values, query.user_id, items, reader, bulk
                )
            )
        )
        return [one for one in scored if one.item_id in stay]

    def _parsed_filter(self, group: Group, arn: str) -> filters.Filter:
        found = self._state.active(arn, "Filter")
        if self._state.groups[found.parent] is not group:
            raise errors.invalid_input(f"The filter {arn} is of another dataset group.")
        items = self._state.dataset(found.parent, "ITEMS")
        schema = None if items is None else self._state.dataset_schema(items)
        return filters.parse(found.document["filterExpression"], schema)

    def _item_list(self, name: str, items: list[Scored]) -> bytes:
        document = {
            name: [{"itemId": item.item_id, "score": item.score} for item in items],
            "recommendationId": f"RID-{self._new_id()}",  # 40 characters, the most an event takes
        }
        return json.dumps(document).encode()

    async def _commit(self, group: Group, call: Call) -> None:
        try:
            await group.write(call)
        except Exception as error:
            log.exception("a call could not be stored and was answered with InternalFailure")
            raise errors.internal_failure() from error
