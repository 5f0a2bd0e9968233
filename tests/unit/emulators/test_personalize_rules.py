"""What Personalize demands beyond its model."""

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


def read(*events: dict[str, Any], **members: Any) -> tuple[rules.Event, ...]:
    return rules.parse_events(request(*events, **members), RESOURCES, lambda: "generated")


def refusal(*events: dict[str, Any], **members: Any) -> str:
    with pytest.raises(ServiceError, match="InvalidInputException") as raised:
        read(*events, **members)
    return raised.value.message


def test_an_event_keeps_all_that_was_sent() -> None:
    """Milliseconds, properties as sent, impression, recommendation id and source."""
    (found,) = read(
        event(
            eventId="e1",
            eventValue=1,
            properties='{ "device": "ios" }',
            recommendationId="r1",
            impression=["i1", "i2"],
            metricAttribution={"eventAttributionSource": "home"},
        )
    )
    assert (found.event_id, found.user_id, found.session_id) == ("e1", "u1", "s1")
    assert (found.item_id, found.event_type, found.event_value) == ("i1", "play", 1.0)
    assert found.sent_at == 1763000000250
    assert found.properties == '{ "device": "ios" }'
    assert (found.recommendation_id, found.impression) == ("r1", ("i1", "i2"))
    assert found.attribution_source == "home"


def test_an_event_without_an_id_gets_one() -> None:
    """As the service does when eventId is absent."""
    assert read(event())[0].event_id == "generated"


def test_an_anonymous_event_counts_for_its_session() -> None:
    """Without a userId the session is the listener."""
    members = request(event())
    del members["userId"]
    (found,) = rules.parse_events(members, RESOURCES, str)
    assert (found.user_id, found.listener) == (None, "s1")


@pytest.mark.parametrize(
    "key",
    ["userId", "USERID", "sessionId", "eventType", "timestamp", "recommendationId", "impressioN"],
)
def test_a_forbidden_key_is_refused_in_any_case(key: str) -> None:
    """The keys that botocore's documentation forbids, case-insensitively."""
    assert f"'{key}' can't be included" in refusal(event(properties=json.dumps({key: "x"})))


@pytest.mark.parametrize("key", ["NUMBER_OF_RATINGS", "number_of_ratings", "Device", "", "a-b"])
def test_a_key_that_is_not_camel_case_is_refused(key: str) -> None:
    """Keys are the camelCase names of the schema's fields."""
    assert "camelCase" in refusal(event(properties=json.dumps({key: "x"})))


@pytest.mark.parametrize(
    "text", ["not json", "[1]", '"text"', "{", "[" * 1024, '{"a": NaN}', '{"a": "\\ud800"}']
)
def test_properties_must_be_a_json_object(text: str) -> None:
    """A string that is not the JSON of an object is refused in the service's words."""
    assert refusal(event(properties=text)).startswith("Error parsing properties json")


@pytest.mark.parametrize("value", [["a", "b"], {"b": 1}])
def test_nested_properties_are_refused(value: object) -> None:
    """Several categories are one string, joined with '|'."""
    assert "nested" in refusal(event(properties=json.dumps({"genres": value})))


def test_one_bad_event_refuses_the_call() -> None:
    """There is no partial success; the message says which one it was."""
    assert "eventList.2.member" in refusal(event(), event(properties="[]"), event())


def test_the_item_may_be_in_the_properties() -> None:
    """Where older clients put it."""
    bare = {"eventType": "play", "sentAt": 1, "properties": '{"itemId": "i9"}'}
    assert read(bare)[0].item_id == "i9"
    assert "itemId" in refusal({"eventType": "play", "sentAt": 1})
    assert "itemId" in refusal({"eventType": "play", "sentAt": 1, "properties": '{"itemId": 9}'})


def test_an_event_above_ten_kilobytes_is_refused() -> None:
    """The quota is in bytes: 25 ids of 256 wide characters are within the model's limits."""
    assert "10240 bytes" in refusal(event(impression=["音" * 256] * 25))
    assert len(read(event(impression=["a" * 256] * 25))) == 1


def test_an_unknown_tracking_id_is_invalid_input() -> None:
    """PutEvents models no other error."""
    assert "tunemesh-local-tracker" in refusal(event(), trackingId="other")


def test_identity_is_timestamp_and_content_not_id() -> None:
    """The same interaction under two ids is one; the order of the properties does not matter."""
    first, second = read(
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
    """Only what is the same in everything is taken for the same."""
    first, second = read(event(), event(**change))
    assert first.identity != second.identity


def test_two_listeners_never_share_an_identity() -> None:
    """Two users who do the same at the same time are two."""
    identities = {
        read(event())[0].identity,
        read(event(), userId="u2")[0].identity,
        read(event(), userId=None)[0].identity,
        read(event(), userId=None, sessionId="s2")[0].identity,
    }
    assert len(identities) == 4


def test_records_go_to_their_own_data_set() -> None:
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
def test_what_recommendations_do_not_offer_is_refused(members: dict[str, Any]) -> None:
    """Nothing is ignored in silence."""
    asked = {"campaignArn": RESOURCES.campaign, "userId": "u1"}
    assert rules.parse_recommendation_query(asked, CAMPAIGNS).count == 25
    with pytest.raises(ServiceError, match="InvalidInputException") as raised:
        rules.parse_recommendation_query(asked | members, CAMPAIGNS)
    assert next(iter(members)) in raised.value.message


@pytest.mark.parametrize("items", [[], ["i"] * 501, ["i1", ""]])
def test_a_ranking_needs_one_to_five_hundred_items(items: list[str]) -> None:
    """The documented limit of inputList, which the model lacks."""
    asked = {"campaignArn": RESOURCES.campaign, "userId": "u1", "inputList": items}
    with pytest.raises(ServiceError, match="inputList"):
        rules.parse_ranking_query(asked, CAMPAIGNS)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": NaN}', b'"\xff"', b'{"a": "\\ud800"}'])
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    """Also what Python's json would let through."""
    with pytest.raises(ServiceError, match="SerializationException"):
        rules.decode(body)
