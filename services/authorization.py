"""What a caller may do: the authoriser contract of the back ends.

An authoriser of the HTTP API checks who calls. The handlers decide by what it passes in
``requestContext.authorizer`` (payload version 2.0):

    {"jwt": {"claims": {...}, "scopes": ...}}    a JWT authoriser: the token's claims
    {"lambda": {...}}                            a Lambda authoriser: its context

The claim of TUNEMESH_USER_CLAIM (``sub``) is the caller's user id; ``scope`` or ``scp`` holds
scopes. A service acts by the scopes ``DOMAIN/read`` and ``DOMAIN/write``. Anyone else acts only
for themselves: their own record of the users, their own interactions; items they may only read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from schemas.model import Contract, Role
from services.http import Problem, Request
from services.settings import ServiceSettings

SCOPE_CLAIMS = ("scope", "scp")
FORBIDDEN = "forbidden"
"""The reason of an answer with 403."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: ``user`` is None for a caller that is no user."""

    user: str | None
    scopes: frozenset[str]


def authorize(request: Request, contract: Contract) -> Request:
    """The request, with ``acting_for`` set where the caller acts only for themselves.

    Raises Problem: 401 when no authoriser has passed a caller, 403 for what the caller may not do.
    """
    settings = ServiceSettings.from_environment()
    if settings.authorization == "off":
        return request
    caller = caller_of(request.authorizer, settings.user_claim)
    if caller is None:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "unauthenticated",
            "the request has no authenticated caller",
            headers={"www-authenticate": "Bearer"},
        )
    action = "read" if request.method == "GET" else "write"
    if f"{contract.name}/{action}" in caller.scopes:
        return request
    if contract.role is Role.ITEM:
        if action == "read":
            return request
    elif caller.user is not None:
        return replace(request, acting_for=caller.user)
    raise forbidden()


def forbidden(field: str | None = None) -> Problem:
    """The answer to a caller who is known but may not do this."""
    return Problem(HTTPStatus.FORBIDDEN, FORBIDDEN, "the caller is not permitted to do this", field)


def caller_of(authorizer: Mapping[str, Any], user_claim: str) -> Caller | None:
    """The caller in an event's ``authorizer``; None without a JWT or Lambda authoriser."""
    jwt, context = authorizer.get("jwt"), authorizer.get("lambda")
    claims = jwt.get("claims") if isinstance(jwt, Mapping) else context
    if not isinstance(claims, Mapping):
        return None
    user = claims.get(user_claim)
    scopes = frozenset(scope for name in SCOPE_CLAIMS for scope in _scopes(claims.get(name)))
    return Caller(user if isinstance(user, str) and user else None, scopes)


def _scopes(claim: Any) -> list[str]:
    """The scopes of a claim: a text, which API Gateway also makes of a list (``[a b]``)."""
    texts = claim if isinstance(claim, list) else [claim]
    return [
        scope
        for text in texts
        if isinstance(text, str)
        for scope in re.split(r"[\s,\[\]]+", text)
        if scope
    ]
