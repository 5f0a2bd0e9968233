"""Interactions: an HTTP API's events to their topic, many in a request.

    POST /interactions    one event, or an array of up to 500

An invalid event is reported and the others are published. The answer is 202 when all are published,
207 when some are, with an entry in ``errors`` for each other one: its index in the array, its
event_id, reason, message and field. An event with the reason ``not_published`` may be sent again;
if it was published after all, every consumer recognizes it by its event_id.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from connectors.clock import now_ms
from schemas.codec import Record
from schemas.model import Contract, Role, load_contracts
from services.authorization import FORBIDDEN, authorize, forbidden
from services.http import (
    Answer,
    Event,
    Problem,
    Request,
    Response,
    Unavailable,
    not_allowed,
    respond,
)
from services.publishing import Message, Publisher
from services.records import InvalidInput, Rules
from services.settings import ServiceSettings

MAX_EVENTS = 500
PUBLISH_SECONDS = 10.0
NOT_PUBLISHED = "not_published"
_STATUS = {
    NOT_PUBLISHED: HTTPStatus.SERVICE_UNAVAILABLE,
    FORBIDDEN: HTTPStatus.FORBIDDEN,
}
"""The answer when all events have this reason; 400 for other reasons."""
TRY_AGAIN = "not published; send it again"
"""The broker's own text, which names servers, is in the log."""

_log = logging.getLogger(__name__)


def handler(event: Event, context: Any) -> Answer:
    """Answer a request for ``/interactions``."""
    return respond(_serve, event)


def _serve(request: Request) -> Response:
    contract = load_contracts().only(Role.INTERACTION)
    if request.domain != contract.name or request.id is not None:
        raise Problem(HTTPStatus.NOT_FOUND, "not_found", f"there is no {request.domain!r}")
    return _interactions().serve(authorize(request, contract))


@functools.cache
def _interactions() -> Interactions:
    contract = load_contracts().only(Role.INTERACTION)
    publisher = ServiceSettings.from_environment().publisher()
    return Interactions(contract, publisher, now_ms)


class Interactions:
    """Checks events and publishes them."""

    def __init__(self, contract: Contract, publisher: Publisher, now_ms: Callable[[], int]) -> None:
        self._contract = contract
        self._rules = Rules(contract)
        self._publisher = publisher
        self._now_ms = now_ms

    def serve(self, request: Request) -> Response:
        """The answer to a request; raises InvalidInput, Problem, Unavailable."""
        if request.method != "POST":
            not_allowed("POST")
        given = request.json()
        if not isinstance(given, list):
            return self._one(given, request.acting_for)
        if not 1 <= len(given) <= MAX_EVENTS:
            raise InvalidInput(
                "wrong_count", f"{len(given)} events, expected 1 to {MAX_EVENTS} in a request"
            )
        return self._several(given, request.acting_for)

    def _one(self, given: Any, acting_for: str | None) -> Response:
        record = self._checked(given, acting_for)
        (problem,) = self._publisher.publish([self._message(record)], PUBLISH_SECONDS)
        if problem is not None:
            raise Unavailable(problem)
        return Response(HTTPStatus.ACCEPTED, {"accepted": 1, "errors": []})

    def _several(self, given: list[Any], acting_for: str | None) -> Response:
        records: dict[int, Record] = {}
        errors: dict[int, dict[str, Any]] = {}
        for index, event in enumerate(given):
            try:
                records[index] = self._checked(event, acting_for)
            except (InvalidInput, Problem) as error:
                errors[index] = _error(index, event, error.reason, error.message, error.field)
        messages = [self._message(record) for record in records.values()]
        problems = self._publisher.publish(messages, PUBLISH_SECONDS) if messages else []
        for index, problem in zip(records, problems, strict=True):
            if problem is not None:
                errors[index] = _error(index, given[index], NOT_PUBLISHED, TRY_AGAIN, None)
        if any(problems):
            _log.warning("events are not published: %s", next(filter(None, problems)))
        body = {
            "accepted": len(given) - len(errors),
            "errors": [errors[index] for index in sorted(errors)],
        }
        return Response(self._status(len(given), errors), body)

    @staticmethod
    def _status(count: int, errors: dict[int, dict[str, Any]]) -> HTTPStatus:
        if not errors:
            return HTTPStatus.ACCEPTED
        if len(errors) < count:
            return HTTPStatus.MULTI_STATUS
        reasons = {error["reason"] for error in errors.values()}
        status = _STATUS.get(reasons.pop(), HTTPStatus.BAD_REQUEST)
        return status if not reasons else HTTPStatus.BAD_REQUEST

    def _checked(self, given: Any, acting_for: str | None) -> Record:
        """The event's record; a caller who acts for themselves may also publish an anonymous one.

        Raises InvalidInput, Problem.
        """
        name = self._contract.key
        if acting_for is not None and isinstance(given, dict):
            given = {name: acting_for, **given}
        record = self._rules.completed(given)
        if acting_for is not None and record[name] not in (None, acting_for):
            raise forbidden(name)
        self._rules.check(record, self._now_ms())
        return record

    def _message(self, record: Record) -> Message:
        # Anonymous events are keyed by their session, as the enrichment keys them.
        return Message(self._contract, record[self._contract.key] or record["session_id"], record)


def _error(index: int, event: Any, reason: str, message: str, field: str | None) -> dict[str, Any]:
    event_id = event.get("event_id") if isinstance(event, dict) else None
    return {
        "index": index,
        "event_id": event_id if isinstance(event_id, str) else None,
        "reason": str(reason),
        "message": message,
        "field": field,
    }
