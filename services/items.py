"""Items of every item domain that has a contract: an HTTP API's events to DynamoDB.

A new domain is a folder with a contract, and a function (or a route to the same one) in the
deployment.
"""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import Any

from connectors.clock import now_ms
from schemas.model import Role, load_contracts
from services import item_store
from services.authorization import authorize
from services.domain import Domain
from services.http import Answer, Event, Problem, Request, Response, respond
from services.records import Rules
from services.settings import ServiceSettings


def handler(event: Event, context: Any) -> Answer:
    """Answer a request for ``/{domain}`` or ``/{domain}/{id}``; see :mod:`services.domain`."""
    return respond(_serve, event)


def _serve(request: Request) -> Response:
    contracts = {contract.name: contract for contract in load_contracts().with_role(Role.ITEM)}
    if request.domain not in contracts:
        raise Problem(
            HTTPStatus.NOT_FOUND, "not_found", f"there is no item domain {request.domain!r}"
        )
    return _items(request.domain).serve(authorize(request, contracts[request.domain]))


@functools.cache
def _items(name: str) -> Domain:
    rules = Rules(load_contracts()[name])
    return Domain(rules, item_store.ItemStore(_client(), rules), now_ms)


@functools.cache
def _client() -> Any:
    return item_store.connect(ServiceSettings.from_environment().region)
