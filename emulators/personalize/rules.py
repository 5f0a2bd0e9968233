"""The rules of the service beyond its model, and parsing requests to records.

Pure: it takes requests that passed `validation`, and returns records to store or raises
`ServiceError`. Sources: the member documentation of personalize-events in botocore ("can't be
included as a keyword for properties"), "Recording item interaction events" and "Quotas" in the
Amazon Personalize developer guide, and aws/aws-sdk-js#3371 for sessionId 'null'.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

from emulators.errors import ServiceError, invalid_input, malformed, not_found

MAX_EVENT_BYTES = 10 * 1024
FORBIDDEN_EVENT_KEYS = frozenset(
    ("userid", "sessionid", "eventtype", "timestamp", "recommendationid", "impression")
)
IGNORED_SESSION = "null"
DEFAULT_RESULTS = 25
MAX_RESULTS = 500

RecordKind = Literal["users", "items"]

_CAMEL_CASE = re.compile(r"[a-z][a-zA-Z0-9]*")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(
    parse_constant=_refuse_constant
)  # json.loads would create one each time


@dataclass(frozen=True, slots=True)
class Resources:
    """The names and ARNs of the resources that exist from the start."""

    region: str = "us-east-1"
    account: str = "000000000000"
    name: str = "tunemesh"
    tracking_id: str = "tunemesh-local-tracker"

    def arn(self, resource: str) -> str:
        """The ARN of `resource`, for example `campaign/tunemesh`."""
        return f"arn:aws:personalize:{self.region}:{self.account}:{resource}"

    @property
    def campaign(self) -> str:
        """The ARN of the campaign."""
        return self.arn(f"campaign/{self.name}")

    def dataset(self, kind: str) -> str:
        """The data set's ARN; `kind` is USERS, ITEMS or INTERACTIONS."""
        return self.arn(f"dataset/{self.name}/{kind}")


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a PutEvents call.

    `sent_at` is in milliseconds since 1970; `properties` is the JSON text as it was sent;
    `identity` is equal for events that the service treats as the same.
    """

    event_id: str
    user_id: str | None
    session_id: str
    item_id: str
    event_type: str
    event_value: float | None
    sent_at: int
    properties: str | None
    recommendation_id: str | None
    impression: tuple[str, ...] | None
    attribution_source: str | None
    identity: bytes

    @property
    def listener(self) -> str:
        """The user or, for an anonymous listener, the session."""
        return self.user_id if self.user_id is not None else self.session_id


@dataclass(frozen=True, slots=True)
class Record:
    """A user or an item; a later record with the same id replaces it."""

    id: str
    properties: str | None


@dataclass(frozen=True, slots=True)
class RecommendationQuery:
    """A valid GetRecommendations call."""

    campaign: str
    user_id: str
    count: int
    filter: str | None
    filter_values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RankingQuery:
    """A valid GetPersonalizedRanking call; each item once, in the order of the request."""

    campaign: str
    user_id: str
    items: tuple[str, ...]
    filter: str | None
    filter_values: Mapping[str, str]


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; raises SerializationException for anything else."""
    try:
        value = _decoder.decode(body.decode())
        if _ESCAPED_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is not text
    except (ValueError, RecursionError) as error:
        raise malformed("The body is not JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise malformed("The body is not a JSON object.")
    return value


def parse_events(
    request: Mapping[str, Any], resources: Resources, new_event_id: Callable[[], str]
) -> tuple[Event, ...]:
    """The events of a PutEvents request, in its order.

    Raises InvalidInputException for an unknown tracking id and for any event that violates a rule:
    the response cannot express partial success, so one invalid event refuses the call.
    """
    if request["trackingId"] != resources.tracking_id:
        raise invalid_input(
            f"No event tracker has the tracking id '{request['trackingId']}'. "
            f"The one that exists here is '{resources.tracking_id}'."
        )
    user_id = request.get("userId")
    session_id = request["sessionId"]
    return tuple(
        _event(event, position, user_id, session_id, new_event_id)
        for position, event in enumerate(request["eventList"], start=1)
    )


def parse_records(
    request: Mapping[str, Any], kind: RecordKind, resources: Resources
) -> list[Record]:
    """The users or items of a PutUsers or PutItems request, in its order.

    Raises ResourceNotFoundException for a data set that does not exist, InvalidInputException for
    one of another type and for properties that are not a flat JSON object.
    """
    arn = request["datasetArn"]
    expected = resources.dataset(kind.upper())
    if arn != expected:
        others = {resources.dataset(name) for name in ("USERS", "ITEMS", "INTERACTIONS")}
        if arn in others:
            raise invalid_input(f"The dataset {arn} does not hold {kind}. Use {expected}.")
        raise not_found(f"The dataset {arn} does not exist. The {kind} are in {expected}.")
    id_name = "userId" if kind == "users" else "itemId"
    parsed = []
    for position, entry in enumerate(request[kind], start=1):
        text = entry.get("properties")
        if text is not None:
            _properties(text, f"{kind}.{position}.member.properties")
        parsed.append(Record(entry[id_name], text))
    return parsed


def parse_recommendation_query(
    request: Mapping[str, Any], campaigns: Collection[str]
) -> RecommendationQuery:
    """The query of a GetRecommendations request to one of `campaigns` (ARNs).

    Raises ServiceError for an invalid request and for members that are not offered.
    """
    refuse_not_offered(request, "recommenderArn", "context", "promotions", "metadataColumns")
    if request.get("itemId") is not None:
        raise invalid_input(
            "itemId is for campaigns with a RELATED_ITEMS recipe, which the emulator does not "
            "offer. Use a userId."
        )
    campaign = _campaign(request, campaigns)
    user_id = request.get("userId")
    if not user_id:
        raise invalid_input("userId is required by a campaign with a USER_PERSONALIZATION recipe.")
    count = request.get("numResults")
    if count is not None and count > MAX_RESULTS:
        raise invalid_input(
            f"1 validation error detected: Value '{count}' at 'numResults' failed to satisfy "
            f"constraint: Member must have value less than or equal to {MAX_RESULTS}"
        )
    return RecommendationQuery(
        campaign, user_id, DEFAULT_RESULTS if count is None else count, *_filter(request)
    )


def parse_ranking_query(request: Mapping[str, Any], campaigns: Collection[str]) -> RankingQuery:
    """The query of a GetPersonalizedRanking request to one of `campaigns` (ARNs).

    Raises ServiceError for an invalid request and for members that are not offered.
    """
    refuse_not_offered(request, "context", "metadataColumns")
    campaign = _campaign(request, campaigns)
    if not request["userId"]:
        raise invalid_input("userId must not be empty.")
    items: Sequence[str] = request["inputList"]
    if not 1 <= len(items) <= MAX_RESULTS:
        bound = (
            "greater than or equal to 1" if not items else f"less than or equal to {MAX_RESULTS}"
        )
        raise invalid_input(
            "1 validation error detected: Value at 'inputList' failed to satisfy constraint: "
            f"Member must have length {bound}"
        )
    if "" in items:
        raise invalid_input("inputList holds an empty item id.")
    return RankingQuery(campaign, request["userId"], tuple(dict.fromkeys(items)), *_filter(request))


def actions_not_offered(operation: str) -> ServiceError:
    """The error for a valid call on actions."""
    message = f"{operation} is not offered: the emulator has no Actions dataset."
    if operation == "GetActionRecommendations":
        return invalid_input(message)
    return not_found(message)


def _event(
    event: Mapping[str, Any],
    position: int,
    user_id: str | None,
    session_id: str,
    new_event_id: Callable[[], str],
) -> Event:
    where = f"eventList.{position}.member"
    text = event.get("properties")
    properties = None
    if text is not None:
        properties = _properties(text, f"{where}.properties", FORBIDDEN_EVENT_KEYS)
    item_id = event.get("itemId")
    if item_id is None and properties:
        item_id = properties.get("itemId")  # as older clients send it
    if not isinstance(item_id, str) or not 1 <= len(item_id) <= 256:
        raise invalid_input(f"'{where}.itemId' is missing: an interaction needs an ITEM_ID.")
    impression = event.get("impression")
    if _may_be_too_large(event) and len(_json_bytes(event)) > MAX_EVENT_BYTES:
        raise invalid_input(
            f"'{where}' is larger than the quota of {MAX_EVENT_BYTES} bytes for one event."
        )
    event_type = event["eventType"]
    value = None if event.get("eventValue") is None else float(event["eventValue"])
    sent_at = round(event["sentAt"] * 1000)
    metric = event.get("metricAttribution")
    return Event(
        event_id=event.get("eventId") or new_event_id(),
        user_id=user_id,
        session_id=session_id,
        item_id=item_id,
        event_type=event_type,
        event_value=value,
        sent_at=sent_at,
        properties=text,
        recommendation_id=event.get("recommendationId"),
        impression=None if impression is None else tuple(impression),
        attribution_source=None if metric is None else metric["eventAttributionSource"],
        identity=_identity(user_id, session_id, item_id, event_type, value, sent_at, properties),
    )


def _identity(
    user_id: str | None,
    session_id: str,
    item_id: str,
    event_type: str,
    value: float | None,
    sent_at: int,
    properties: dict[str, Any] | None,
) -> bytes:
    """Equal for two events of one listener with the same timestamp and identical properties.

    Item, event type and value count as properties here, so that two different interactions in one
    millisecond remain two.
    """
    listener = (None, session_id) if user_id is None else (user_id,)
    others = sorted(properties.items(), key=itemgetter(0)) if properties else None
    content = repr((listener, item_id, event_type, value, sent_at, others))
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def _properties(text: str, where: str, forbidden: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The flat JSON object in `text`, with camelCase keys."""
    try:
        value = _decoder.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise invalid_input(f"Error parsing properties json: '{where}' is not JSON.") from error
    if not isinstance(value, dict):
        raise invalid_input(f"Error parsing properties json: '{where}' is not a JSON object.")
    for key, entry in value.items():
        if key.lower() in forbidden:
            raise invalid_input(
                f"The key '{key}' can't be included in '{where}': it is a member of the event or "
                "of the request."
            )
        if not _CAMEL_CASE.fullmatch(key):
            raise invalid_input(
                f"The key '{key}' in '{where}' is not the camelCase name of a schema field "
                "(NUMBER_OF_RATINGS is numberOfRatings)."
            )
        if isinstance(entry, dict | list):
            raise invalid_input(
                f"The value of '{key}' in '{where}' is nested: use a string, a number, a boolean "
                "or null, and join several categories with '|'."
            )
    return value


def _campaign(request: Mapping[str, Any], campaigns: Collection[str]) -> str:
    arn = request.get("campaignArn")
    if arn is None:
        raise invalid_input("campaignArn is required.")
    if arn not in campaigns:
        raise not_found(
            f"The campaign {arn} does not exist or is not active yet. Active campaigns: "
            f"{', '.join(sorted(campaigns))}."
        )
    return str(arn)


def _filter(request: Mapping[str, Any]) -> tuple[str | None, Mapping[str, str]]:
    arn, values = request.get("filterArn"), request.get("filterValues") or {}
    if values and arn is None:
        raise invalid_input("filterValues are for a filter: filterArn is missing.")
    return arn, values


def refuse_not_offered(request: Mapping[str, Any], *names: str) -> None:
    """Raise InvalidInputException when the request has one of these members."""
    for name in names:
        if request.get(name) is not None:
            raise invalid_input(
                f"'{name}' is not offered by the emulator. Leave it out; it is not ignored, because"
                " the result would differ from the service's."
            )


def _may_be_too_large(event: Mapping[str, Any]) -> bool:
    """An upper bound of the size, which costs a tenth of measuring it; False for most events."""
    characters = sum(len(member) for member in event.values() if isinstance(member, str))
    characters += sum(len(item_id) for item_id in event.get("impression") or ())
    if event.get("metricAttribution") is not None:
        characters += len(event["metricAttribution"]["eventAttributionSource"])
    # At most 6 bytes of JSON per character, and 500 for names, numbers and commas.
    return 6 * characters + 500 > MAX_EVENT_BYTES


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
