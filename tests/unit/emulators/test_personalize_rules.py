"""The rules of Personalize beyond its model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emulators.errors import ServiceError
from emulators.personalize import rules
from emulators.personalize.rules import Resources

RESOURCES = Resources()
CAMPAIGNS = (RESOURCES.campaign,)


def request(*events: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "trackingId": RESOURCES.tracking_id,
        "userId": "u1",
        "sessionId": "s1",
        "eventList": list(events),
        **members,
    }


def event(**members: Any) -> dict[str, Any]:
    return {"eventType": "play", "itemId": "i1", "sentAt": 1763000000.25, **members}


def parse(*events: dict[str, Any], **members: Any) -> tuple[rules.Event, ...]:
    return rules.parse_events(request(*events, **members), RESOURCES, lambda: "generated")


def refusal(*events: dict[str, Any], **members: Any) -> str:
    with pytest.raises(ServiceError, match="InvalidInputException") as raised:
        parse(*events, **members)
    return raised.value.message


def test_an_event_keeps_all_members() -> None:
    """Milliseconds, properties as sent, impression, recommendation id and source."""
    (parsed,) = parse(
        event(
            eventId="e1",
            eventValue=1,
            properties='{ "device": "ios" }',
            recommendationId="r1",
            impression=["i1", "i2"],
            metricAttribution={"eventAttributionSource": "home"},
        )
    )
    assert (parsed.event_id, parsed.user_id, parsed.session_id) == ("e1", "u1", "s1")
    assert (parsed.item_id, parsed.event_type, parsed.event_value) == ("i1", "play", 1.0)
    assert parsed.sent_at == 1763000000250
    assert parsed.properties == '{ "device": "ios" }'
    assert (parsed.recommendation_id, parsed.impression) == ("r1", ("i1", "i2"))
    assert parsed.attribution_source == "home"


def test_an_event_without_an_id_receives_one() -> None:
    """As in the service."""
    assert parse(event())[0].event_id == "generated"


def test_the_listener_of_an_anonymous_event_is_its_session() -> None:
    """Without a userId."""
    members = request(event())
    del members["userId"]
    (parsed,) = rules.parse_events(members, RESOURCES, str)
    assert (parsed.user_id, parsed.listener) == (None, "s1")


FORBIDDEN = ["userId", "USERID", "sessionId", "eventType", "timestamp", "impressioN"]
NOT_CAMEL_CASE = ["NUMBER_OF_RATINGS", "number_of_ratings", "Device", "", "a-b"]
NO_OBJECTS = ["not json", "[1]", '"text"', "{", "[" * 1024, '{"a": NaN}', '{"a": "\\ud800"}']


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        # The keys that botocore's documentation forbids, in any case.
        *(
            (json.dumps({key: "x"}), f"'{key}' can't be included")
            for key in [*FORBIDDEN, "recommendationId"]
        ),
        *((json.dumps({key: "x"}), "camelCase") for key in NOT_CAMEL_CASE),
        *((text, "Error parsing properties json") for text in NO_OBJECTS),
        # Several categories are a string, joined by '|'.
        *((json.dumps({"genres": value}), "nested") for value in (["a", "b"], {"b": 1})),
    ],
)
def test_invalid_properties_are_refused(properties: str, reason: str) -> None:
    """With the message of the service."""
    assert reason in refusal(event(properties=properties))


def test_one_invalid_event_refuses_the_call() -> None:
    """There is no partial success; the message has its position."""
    assert "eventList.2.member" in refusal(event(), event(properties="[]"), event())


def test_the_item_may_be_in_the_properties() -> None:
    """As older clients send it."""
    bare = {"eventType": "play", "sentAt": 1, "properties": '{"itemId": "i9"}'}
    assert parse(bare)[0].item_id == "i9"
    assert "itemId" in refusal({"eventType": "play", "sentAt": 1})
    assert "itemId" in refusal({"eventType": "play", "sentAt": 1, "properties": '{"itemId": 9}'})


def test_an_event_above_ten_kilobytes_is_refused() -> None:
    """The quota is in bytes: 25 ids of 256 wide characters are within the model's limits."""
    assert "10240 bytes" in refusal(event(impression=["音" * 256] * 25))
    assert len(parse(event(impression=["a" * 256] * 25))) == 1


def test_an_unknown_tracking_id_is_invalid_input() -> None:
    """PutEvents has no other error in the model."""
    assert "tunemesh-local-tracker" in refusal(event(), trackingId="other")


def test_the_identity_depends_on_timestamp_and_content() -> None:
    """Not on the id or the order of the properties."""
    first, second = parse(
        event(eventId="a", properties='{"a": 1, "b": 2}'),
        event(eventId="b", properties='{"b": 2, "a": 1}'),
    )
    assert first.identity == second.identity


@pytest.mark.parametrize(
    "change",
    [
        {"itemId": "i2"},
        {"eventType": "like"},
        {"eventValue": 0.5},
        {"sentAt": 1763000000.251},
        {"properties": '{"a": 1}'},
    ],
)
def test_different_interactions_have_different_identities(change: dict[str, Any]) -> None:
    """Only events that are equal in all members are the same."""
    first, second = parse(event(), event(**change))
    assert first.identity != second.identity


def test_events_of_two_listeners_have_different_identities() -> None:
    """Also with the same content at the same time."""
    identities = {
        parse(event())[0].identity,
        parse(event(), userId="u2")[0].identity,
        parse(event(), userId=None)[0].identity,
        parse(event(), userId=None, sessionId="s2")[0].identity,
    }
    assert len(identities) == 4


def test_records_need_the_dataset_of_their_type() -> None:
    """An unknown ARN is not found, the ARN of another type is invalid."""
    users = {"datasetArn": RESOURCES.dataset("USERS"), "users": [{"userId": "u1"}]}
    assert rules.parse_records(users, "users", RESOURCES) == [rules.Record("u1", None)]
    with pytest.raises(ServiceError, match="ResourceNotFoundException"):
        rules.parse_records(users | {"datasetArn": RESOURCES.dataset("OTHER")}, "users", RESOURCES)
    with pytest.raises(ServiceError, match="InvalidInputException"):
        rules.parse_records(users | {"datasetArn": RESOURCES.dataset("ITEMS")}, "users", RESOURCES)


@pytest.mark.parametrize(
    "members",
    [
        {"filterValues": {"GENRES": '"rock"'}},
        {"context": {"a": "b"}},
        {"promotions": []},
        {"metadataColumns": {"ITEMS": ["A"]}},
        {"recommenderArn": "r"},
        {"itemId": "i1"},
        {"userId": ""},
        {"userId": None},
        {"campaignArn": None},
        {"numResults": 501},
    ],
)
def test_members_that_are_not_offered_are_refused(members: dict[str, Any]) -> None:
    """No member is ignored."""
    valid = {"campaignArn": RESOURCES.campaign, "userId": "u1"}
    assert rules.parse_recommendation_query(valid, CAMPAIGNS).count == 25
    with pytest.raises(ServiceError, match="InvalidInputException") as raised:
        rules.parse_recommendation_query(valid | members, CAMPAIGNS)
    assert next(iter(members)) in raised.value.message


@pytest.mark.parametrize("items", [[], ["i"] * 501, ["i1", ""]])
def test_a_ranking_needs_one_to_five_hundred_items(items: list[str]) -> None:
    """The documented limit of inputList, which is not in the model."""
    query = {"campaignArn": RESOURCES.campaign, "userId": "u1", "inputList": items}
    with pytest.raises(ServiceError, match="inputList"):
        rules.parse_ranking_query(query, CAMPAIGNS)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": NaN}', b'"\xff"', b'{"a": "\\ud800"}'])
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    """Also bodies that Python's json accepts."""
    with pytest.raises(ServiceError, match="SerializationException"):
        rules.decode(body)
