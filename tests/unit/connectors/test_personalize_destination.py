"""PutEvents through the sink engine, with a service that fails on demand."""

from __future__ import annotations

import json
from random import Random
from typing import Any, ClassVar

import pytest

from connectors.aws import Answer, NoAnswer, NoCredentialsError
from connectors.delivery import DeliveryEngine, FatalDeliveryError, Rejected
from connectors.personalize.destination import (
    PutEventsDestination,
    PutEventsSettings,
    put_events_destination,
)
from schemas.errors import SettingError
from tests.support.delivery_contract import DestinationContract
from tests.support.delivery_fakes import VIRTUAL_CLOCK, deliver_all
from tests.support.delivery_service import FakeService, ServiceHarness


class PutEvents(FakeService):
    """PutEvents, and credentials that can end."""

    troubles: ClassVar = {
        "throttled": Answer(400, "ThrottlingException", "Rate exceeded"),
        "server error": Answer(500, "InternalFailure"),
        "connection lost": NoAnswer("ServerDisconnectedError"),
        "fatal": Answer(400, "ResourceNotFoundException", "There is no such event tracker"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.accepted: list[dict[str, Any]] = []

    def read(self, path: str, body: bytes) -> dict[str, Any]:
        assert path == "/events"
        request: dict[str, Any] = json.loads(body)
        assert 1 <= len(request["eventList"]) <= 10
        return request

    def answer(self, request: dict[str, Any], call: int) -> Answer:
        events = request["eventList"]
        if any(event["eventType"] == "refused" for event in events):
            return Answer(400, "InvalidInputException", "unknown event type")
        self.accepted += events
        return Answer(200)


def event(key: int | str, number: int, **changed: Any) -> dict[str, Any]:
    return {
        "event_id": f"{key}/{number}",
        "user_id": f"user-{key}",
        "session_id": f"session-{key}",
        "item_id": "song-1",
        "event_type": "play",
        "occurred_at": 1_764_000_000_000 + number,
    } | changed


class PutEventsHarness(ServiceHarness):
    def __init__(self) -> None:
        self.service = PutEvents()
        settings = PutEventsSettings("tracker", "us-east-1", max_in_flight=8)
        super().__init__(self.service, PutEventsDestination(self.service, settings))

    def record(self, key: int, number: int) -> dict[str, Any]:
        return event(key, number)

    def refused_record(self, key: int, number: int) -> dict[str, Any]:
        return event(key, number, event_type="refused")

    def oversize_record(self, key: int, number: int) -> dict[str, Any]:
        return event(key, number, impression=["🎧" * 256] * 25)

    def accepted(self) -> list[tuple[int, int]]:
        ids = [one["eventId"].split("/") for one in self.service.accepted]
        return [(int(key), int(number)) for key, number in ids]


class TestContract(DestinationContract):
    make_harness = PutEventsHarness


def deliver(service: PutEvents, *batches: list[dict[str, Any]]) -> list[Any]:
    settings = PutEventsSettings("tracker", "us-east-1")
    return deliver_all(PutEventsDestination(service, settings), *batches)


def test_a_call_is_of_one_user_and_one_session() -> None:
    """The same user in two sessions, and two users, are three calls."""
    service = PutEvents()
    records = [
        event("a", n, user_id=user, session_id=session)
        for n in range(5)
        for user, session in [("u1", "s1"), ("u1", "s2"), ("u2", "s3")]
    ]
    deliver(service, records)
    assert sorted(
        (one["userId"], one["sessionId"], len(one["eventList"])) for one in service.calls
    ) == [("u1", "s1", 5), ("u1", "s2", 5), ("u2", "s3", 5)]
    assert {one["trackingId"] for one in service.calls} == {"tracker"}


def test_a_session_stays_in_order_when_its_listener_signs_in() -> None:
    """First the anonymous events, then those of the user; no call mixes them."""
    service = PutEvents()
    deliver(service, [event("a", n, user_id=None if n < 13 else "u") for n in range(20)])
    assert [one["eventId"] for one in service.accepted] == [f"a/{n}" for n in range(20)]
    assert [(one.get("userId"), len(one["eventList"])) for one in service.calls] == [
        (None, 10),
        (None, 3),
        ("u", 7),
    ]


def test_an_event_outside_the_limits_costs_no_call() -> None:
    """It is rejected with the reason; the others of its batch arrive in one call."""
    service = PutEvents()
    records = [event("a", n) for n in range(5)]
    records[2]["item_id"] = "x" * 257
    outcomes = deliver(service, records)
    assert outcomes[2] == Rejected("InvalidEvent", "item_id has 257 characters, at most 256")
    assert len(service.calls) == 1
    assert len(service.accepted) == 4


def test_expired_credentials_are_renewed_once_for_all_calls() -> None:
    """A token that ends under way costs a renewal, not the job."""
    service = PutEvents()
    service.accepts_credentials = lambda generation: (
        generation >= (0 if len(service.calls) < 40 else 1)
    )
    outcomes = deliver(service, [event(n, 0) for n in range(200)])
    assert len(outcomes) == 200
    assert len(service.accepted) == 200
    assert service.generation == 1


def test_credentials_may_expire_again_and_again() -> None:
    """Each time that renewed ones have worked, the next refusal is a fresh start."""
    service = PutEvents()
    service.accepts_credentials = lambda generation: generation >= len(service.calls) // 30
    deliver(service, *[[event(n, m) for n in range(20)] for m in range(6)])
    assert len(service.accepted) == 120
    assert service.generation >= 3


def test_credentials_refused_after_renewal_are_fatal() -> None:
    """Newly read credentials that are refused, too, stop the job and say what to check."""
    service = PutEvents()
    service.accepts_credentials = lambda generation: False
    with pytest.raises(FatalDeliveryError, match=r"ExpiredTokenException.*Check which credentials"):
        deliver(service, [event(n, 0) for n in range(50)])


async def test_after_a_fatal_refusal_the_next_attempt_has_new_credentials() -> None:
    """A job that restarts in the same process sees what has been corrected."""
    service = PutEvents()
    service.accepts_credentials = lambda generation: generation >= 2
    destination = PutEventsDestination(service, PutEventsSettings("tracker", "us-east-1"))
    engine: DeliveryEngine[Any, Any] = DeliveryEngine(
        destination, random=Random(1), clock=VIRTUAL_CLOCK
    )
    with pytest.raises(FatalDeliveryError):
        await engine.deliver([event("a", 0)])
    await engine.deliver([event("a", 0)])
    assert len(service.accepted) == 1


def test_no_credentials_at_all_are_fatal() -> None:
    """The message is the one of the credential chain."""

    class Without(PutEvents):
        async def post(self, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
            raise NoCredentialsError("No AWS credentials were found. Set them.")

    with pytest.raises(FatalDeliveryError, match=r"NoCredentials.*Set them\."):
        deliver(Without(), [event("a", 0)])


def test_the_client_is_closed_with_the_engine() -> None:
    """No connection is left behind."""
    service = PutEvents()
    deliver(service, [])
    assert service.closed


@pytest.mark.parametrize(
    ("setting", "value"), [("tracking_id", ""), ("tracking_id", "x" * 257), ("request_timeout", 0)]
)
def test_a_bad_setting_is_named(setting: str, value: Any) -> None:
    """The start of the job stops with the name of the setting and what was expected."""
    with pytest.raises(SettingError, match=f"{setting} .*expected"):
        PutEventsSettings(**({"tracking_id": "t", "region": "us-east-1"} | {setting: value}))


def test_a_destination_from_settings() -> None:
    """Limits and properties are those of the settings; nothing is opened yet."""
    destination = put_events_destination(
        PutEventsSettings(
            "t", "us-east-1", "http://127.0.0.1:1", calls_per_second=50, max_in_flight=3
        )
    )
    assert destination.limits.calls_per_second == 50
    assert destination.limits.max_in_flight == 3
    assert destination.limits.max_records == 10
