"""The limits of botocore's service model, with the messages of AWS."""

from __future__ import annotations

from typing import Any

import pytest

from emulators.errors import ServiceError
from emulators.personalize.control import kinds
from emulators.personalize.server import load_operations
from emulators.validation import violation_error

CHECKS = {operation.name: operation.check for operation in load_operations()}
CAMPAIGN = "arn:aws:personalize:us-east-1:000000000000:campaign/tunemesh"


def put_events(**event: Any) -> dict[str, Any]:
    return {
        "trackingId": "t",
        "sessionId": "s",
        "eventList": [{"eventType": "play", "itemId": "i1", "sentAt": 1.5, **event}],
    }


def texts(operation: str, request: dict[str, Any]) -> list[str]:
    return [violation.text() for violation in CHECKS[operation](request)]


def test_every_operation_of_the_services_has_a_check() -> None:
    """Events, recommendations and the control plane."""
    assert CHECKS.keys() >= {"CreateSchema", "DescribeCampaign", "ListFilters", "UpdateDataset"}
    assert set(CHECKS) - kinds.operations().keys() == {
        "PutEvents",
        "PutUsers",
        "PutItems",
        "PutActions",
        "PutActionInteractions",
        "GetRecommendations",
        "GetPersonalizedRanking",
        "GetActionRecommendations",
    }


def test_a_request_at_its_limits_passes() -> None:
    """With the largest values that the model allows."""
    event = {
        "eventId": "e" * 256,
        "itemId": "i" * 256,
        "properties": "p" * 1024,
        "recommendationId": "r" * 40,
        "impression": ["i" * 256] * 25,
        "eventValue": 1,
        "metricAttribution": {"eventAttributionSource": "a" * 1024},
    }
    request = put_events(**event)
    request["eventList"] *= 10
    assert texts("PutEvents", request) == []


def test_the_message_for_eleven_events() -> None:
    """Count, path and constraint as in AWS, without sensitive values."""
    request = put_events()
    request["eventList"] *= 11
    error = violation_error(CHECKS["PutEvents"](request))
    assert (error.code, error.status) == ("InvalidInputException", 400)
    assert error.message == (
        "1 validation error detected: Value at 'eventList' failed to satisfy constraint: "
        "Member must have length less than or equal to 10"
    )


def test_a_value_that_is_not_sensitive_is_shown() -> None:
    """As it was sent."""
    request = put_events() | {"trackingId": "t" * 257}
    (text,) = texts("PutEvents", request)
    assert text.startswith(f"Value '{'t' * 257}' at 'trackingId' failed to satisfy constraint: ")


def test_all_violations_are_in_one_message() -> None:
    """So one response is enough to correct the request."""
    request = put_events(itemId="i" * 300, eventType="") | {"sessionId": None}
    error = violation_error(CHECKS["PutEvents"](request))
    assert error.message == (
        "3 validation errors detected: "
        "Value null at 'sessionId' failed to satisfy constraint: Member must not be null; "
        "Value '' at 'eventList.1.member.eventType' failed to satisfy constraint: "
        "Member must have length greater than or equal to 1; "
        "Value at 'eventList.1.member.itemId' failed to satisfy constraint: "
        "Member must have length less than or equal to 256"
    )


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("eventId", {"eventId": "e" * 257}),
        ("properties", {"properties": "p" * 1025}),
        ("recommendationId", {"recommendationId": "r" * 41}),
        ("impression", {"impression": ["i"] * 26}),
    ],
)
def test_what_is_beyond_the_limits_is_named(path: str, event: dict[str, Any]) -> None:
    """botocore does not check the largest values."""
    (text,) = texts("PutEvents", put_events(**event))
    assert f"eventList.1.member.{path}" in text


def test_the_id_of_a_session_has_a_limit() -> None:
    """Of 256 characters."""
    assert texts("PutEvents", put_events() | {"sessionId": "s" * 256}) == []
    assert len(texts("PutEvents", put_events() | {"sessionId": "s" * 257})) == 1


@pytest.mark.parametrize(
    ("operation", "request_body", "expected"),
    [
        pytest.param(
            "PutEvents",
            put_events() | {"eventList": []},
            "Value at 'eventList' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
            id="too few members",
        ),
        pytest.param(
            "PutEvents",
            put_events(impression=["x" * 257, "ok"]),
            "Value at 'eventList.1.member.impression' failed to satisfy constraint: Member must "
            "satisfy constraint: [Member must have length less than or equal to 256]",
            id="a plain member of a list",
        ),
        pytest.param(
            "PutEvents",
            put_events(metricAttribution={}),
            "Value null at 'eventList.1.member.metricAttribution.eventAttributionSource' failed to "
            "satisfy constraint: Member must not be null",
            id="required, three levels down",
        ),
        pytest.param(
            "PutEvents",
            put_events(metricAttribution={"eventAttributionSource": " "}),
            "Value ' ' at 'eventList.1.member.metricAttribution.eventAttributionSource' failed to "
            "satisfy constraint: Member must satisfy regular expression pattern: "
            "^[\\x20-\\x7E]*[\\x21-\\x7E]+[\\x20-\\x7E]*$",
            id="pattern",
        ),
        pytest.param(
            "PutUsers",
            {"datasetArn": "arn:aws:s3:::bucket", "users": [{"userId": "u"}]},
            "Value 'arn:aws:s3:::bucket' at 'datasetArn' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: arn:([a-z\\d-]+):personalize:.*:.*:.+",
            id="an ARN of another service",
        ),
        pytest.param(
            "GetRecommendations",
            {"campaignArn": CAMPAIGN, "numResults": -1},
            "Value '-1' at 'numResults' failed to satisfy constraint: "
            "Member must have value greater than or equal to 0",
            id="number below its minimum",
        ),
        pytest.param(
            "GetRecommendations",
            {"campaignArn": CAMPAIGN, "promotions": [{"percentPromotedItems": 101}]},
            "Value '101' at 'promotions.1.member.percentPromotedItems' failed to satisfy "
            "constraint: Member must have value less than or equal to 100",
            id="number above its maximum",
        ),
        pytest.param(
            "GetRecommendations",
            {"campaignArn": CAMPAIGN, "context": {"a b": "x"}},
            "Value at 'context' failed to satisfy constraint: Map keys must satisfy constraint: "
            "[Member must satisfy regular expression pattern: [A-Za-z\\d_]+]",
            id="map key",
        ),
        pytest.param(
            "GetRecommendations",
            {"campaignArn": CAMPAIGN, "filterValues": {str(n): "x" for n in range(26)}},
            "Value at 'filterValues' failed to satisfy constraint: "
            "Member must have length less than or equal to 25",
            id="map size",
        ),
        pytest.param(
            "PutEvents",
            put_events(sentAt=1_763_000_000_000),
            "Value '1763000000000' at 'eventList.1.member.sentAt' failed to satisfy constraint: "
            "Member must be seconds since 1970, from 0 to 253402300799",
            id="milliseconds sent as seconds",
        ),
        pytest.param(
            "PutEvents",
            {**put_events(), "eventList": [None]},
            "Value null at 'eventList.1.member' failed to satisfy constraint: "
            "Member must not be null",
            id="null in a list",
        ),
    ],
)
def test_the_message_of_a_violated_constraint(
    operation: str, request_body: dict[str, Any], expected: str
) -> None:
    """It has the path and the constraint, for each kind of limit."""
    assert texts(operation, request_body) == [expected]


def test_an_unknown_member_is_refused() -> None:
    """A misspelt member of a hand-made request is not lost."""
    (text,) = texts("PutEvents", put_events(recommendationID="r"))
    assert "'eventList.1.member.recommendationID'" in text
    assert "recommendationId" in text


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"itemId": 5}, "NUMBER_VALUE can not be converted to a String"),
        ({"properties": {"a": "b"}}, "START_OBJECT can not be converted to a String"),
        ({"eventValue": "0.5"}, "STRING_VALUE can not be converted to a Float"),
        ({"eventValue": True}, "BOOLEAN_VALUE can not be converted to a Float"),
        ({"eventValue": 10**400}, "NUMBER_VALUE is out of the range of a Float"),
        ({"sentAt": "2026-01-01T00:00:00Z"}, "STRING_VALUE can not be converted to a Timestamp"),
        ({"impression": "i1"}, "STRING_VALUE can not be converted to a list"),
    ],
)
def test_another_json_type_is_a_serialization_error(event: dict[str, Any], message: str) -> None:
    """A wrong type is not a wrong value."""
    with pytest.raises(ServiceError, match="SerializationException") as raised:
        CHECKS["PutEvents"](put_events(**event))
    assert raised.value.message.startswith(message)
