"""Users: an HTTP API's events to PostgreSQL."""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import Any

from connectors.clock import now_ms
from schemas.model import Role, load_contracts
from services.authorization import authorize
from services.domain import Domain
from services.http import Answer, Event, Problem, Request, Response, respond
from services.records import Rules
from services.settings import ServiceSettings
from services.user_store import UserStore


def handler(event: Event, context: Any) -> Answer:
    """Answer a request for ``/users`` or ``/users/{id}``; see :mod:`services.domain`."""
    return respond(_serve, event)


def _serve(request: Request) -> Response:
    contract = load_contracts().only(Role.USER)
    if request.domain != contract.name:
        raise Problem(HTTPStatus.NOT_FOUND, "not_found", f"there is no domain {request.domain!r}")
    return _users().serve(authorize(request, contract))


@functools.cache
def _users() -> Domain:
    contract = load_contracts().only(Role.USER)
    store = UserStore(ServiceSettings.from_environment().required_database, contract)
    return Domain(Rules(contract), store, now_ms)
