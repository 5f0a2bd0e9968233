"""Enriched events as events of PutEvents, and every limit of PutEvents.

Pure. A record that the service would reject is rejected here, so that it costs neither a call nor a
bisection. botocore checks almost none of these limits.

Lengths count Unicode characters, as the `length` trait of the service's model does. "Model" below
is the service model `personalize-events/2018-03-22`; "Guide" is the Amazon Personalize Developer
Guide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from connectors.delivery import Rejected
from schemas.rules import MAX_ID_LENGTH, completion

MAX_EVENTS_PER_CALL: Final = 10  # Model: EventList
MAX_PROPERTIES_LENGTH: Final = 1024  # Model: EventPropertiesJSON
MAX_IMPRESSION_ITEMS: Final = 25  # Model: Impression
MAX_RECOMMENDATION_ID_LENGTH: Final = 40  # Model: RecommendationId
MAX_EVENT_BYTES: Final = 10 * 1024  # Guide, quotas: "maximum size of an event: 10 KB"
PUT_EVENTS_CALLS_PER_SECOND: Final = 1000.0  # Guide, quotas: per dataset group, adjustable
MAX_METADATA_FIELDS: Final = 5  # Guide, quotas: metadata columns of an Item interactions dataset

FORBIDDEN_PROPERTY_KEYS: Final = frozenset(
    {"userid", "sessionid", "eventtype", "timestamp", "recommendationid", "impression"}
)
"""In lower case; the service compares without regard to case (Model, documentation of
`properties`)."""

IGNORED_SESSION_ID: Final = "null"
"""Answered with 200 and then ignored, typical of a client that has no session (aws/aws-sdk-js issue
3371). Such an event becomes a dead letter."""

_CAMEL_CASE: Final = re.compile(r"[a-z][a-zA-Z0-9]*")

CATEGORY_SEPARATOR: Final = "|"
"""Separates the categories of one value, so that no category can contain it (Guide, datasets)."""

IN_CATEGORY: Final = "/"
"""What a category has instead of the separator: `Drum|Bass` would be two categories."""

# One encoder for all: json.dumps with arguments creates one at each call.
encode_json: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False
).encode


@dataclass(frozen=True, slots=True)
class EventProperty:
    """One metadata field of the Item interactions dataset, and where its value comes from.

    `key` is the schema's field in camel case (`ITEM_TYPE` -> `itemType`); `source` is the part of
    the enriched event (`event`, the event's own fields; `user`; `item`) and `field` the field in
    it. A list is sent as categories of Personalize: joined by `|`.
    """

    key: str
    source: Literal["event", "user", "item"]
    field: str

    def __post_init__(self) -> None:
        if not _CAMEL_CASE.fullmatch(self.key):
            raise ValueError(
                f"the event property {self.key!r} is not in camel case; Personalize matches "
                "itemType to the schema field ITEM_TYPE"
            )
        if self.key.lower() in FORBIDDEN_PROPERTY_KEYS:
            raise ValueError(
                f"the event property {self.key!r} is one of the names that PutEvents forbids in "
                "properties: userId, sessionId, eventType, timestamp, recommendationId, impression"
            )


DEFAULT_PROPERTIES: Final = (
    EventProperty("itemType", "event", "item_type"),
    EventProperty("device", "event", "device"),
    EventProperty("country", "user", "country"),
    EventProperty("subscription", "user", "subscription"),
    EventProperty("genre", "item", "genres"),
)
"""Most important first. Properties that do not fit are dropped from the end: genres, the only value
without a natural bound, first; the item's type, which distinguishes songs from podcasts, last."""


@dataclass(frozen=True, slots=True)
class PutEventsEvent:
    """One event, converted and checked: user and session of its call, and its JSON text."""

    user_id: str | None
    session_id: str
    text: str
    size: int
    """Bytes of `text` in UTF-8."""


class EventRequests:
    """Converts enriched events with a given set of properties."""

    def __init__(self, properties: Sequence[EventProperty] = DEFAULT_PROPERTIES) -> None:
        if len(properties) > MAX_METADATA_FIELDS:
            raise ValueError(
                f"{len(properties)} event properties; an Item interactions dataset has at most "
                f"{MAX_METADATA_FIELDS} metadata fields"
            )
        if len({entry.key.lower() for entry in properties}) < len(properties):
            raise ValueError("two event properties have the same key")
        self._properties = tuple(properties)

    def convert(self, record: Mapping[str, Any]) -> PutEventsEvent | Rejected:
        """The event to send, or why PutEvents would reject it.

        `record` is an enriched interaction as the contract `interactions-enriched` has it:
        event_id, user_id, session_id, item_id, item_type, event_type, played_ms, device,
        occurred_at (milliseconds since 1970), recommendation_id, impression, user {country,
        subscription, ...} or None, item {genres, duration_ms, ...} or None. The message of a
        rejection names the field, never its value.
        """
        session_id = record.get("session_id")
        user_id = record.get("user_id")
        recommendation_id = record.get("recommendation_id")
        # An empty list means that nothing was shown; the service expects no list then.
        impression = record.get("impression") or None
        occurred_at = record.get("occurred_at")
        problem = (
            id_problem("session_id", session_id)
            or id_problem("event_id", record.get("event_id"))
            or id_problem("event_type", record.get("event_type"))
            or id_problem("item_id", record.get("item_id"))
            or (id_problem("user_id", user_id) if user_id is not None else None)
            or (
                id_problem("recommendation_id", recommendation_id, MAX_RECOMMENDATION_ID_LENGTH)
                if recommendation_id is not None
                else None
            )
            or (_impression_problem(impression) if impression is not None else None)
        )
        if problem is not None:
            return Rejected("InvalidEvent", problem)
        if session_id == IGNORED_SESSION_ID:
            return Rejected(
                "InvalidEvent", "session_id is the text 'null': Personalize ignores such events"
            )
        if type(occurred_at) is not int or occurred_at < 0:
            return Rejected(
                "InvalidEvent", "occurred_at is not a number of milliseconds since 1970"
            )

        event: dict[str, object] = {
            "eventId": record["event_id"],
            "eventType": record["event_type"],
            "itemId": record["item_id"],
            "sentAt": occurred_at / 1000,
        }
        value = completion(record)
        if value is not None:
            event["eventValue"] = value
        if recommendation_id is not None:
            event["recommendationId"] = recommendation_id
        if impression is not None:
            event["impression"] = impression
        properties = self._properties_text(record)
        if properties is not None:
            event["properties"] = properties
        try:
            text = encode_json(event)
            size = len(text.encode())
        except UnicodeEncodeError:
            return Rejected("InvalidEvent", "a text is not valid Unicode: it has a lone surrogate")
        if size > MAX_EVENT_BYTES:
            return Rejected(
                "EventTooLarge", f"{size} bytes as JSON; at most {MAX_EVENT_BYTES} are allowed"
            )
        assert isinstance(session_id, str)  # by id_problem
        return PutEventsEvent(user_id, session_id, text, size)

    def _properties_text(self, record: Mapping[str, Any]) -> str | None:
        """The properties as JSON text within the limit, None when there is none to send."""
        properties: dict[str, str] = {}
        for entry in self._properties:
            holder = record if entry.source == "event" else record.get(entry.source)
            value = holder.get(entry.field) if holder else None
            if isinstance(value, list | tuple):
                value = categories(value)
            elif isinstance(value, str):
                value = category(value)
            if value is not None and value != "":
                properties[entry.key] = value if isinstance(value, str) else str(value)
        text = encode_json(properties)
        while len(text) > MAX_PROPERTIES_LENGTH:
            properties.popitem()  # the last: a dict keeps the order of insertion
            text = encode_json(properties)
        return text if properties else None


def category(text: str) -> str:
    """A text as one category."""
    return text.replace(CATEGORY_SEPARATOR, IN_CATEGORY)


def categories(texts: Sequence[Any]) -> str:
    """Texts as the categories of one value, without empty ones."""
    return CATEGORY_SEPARATOR.join(category(str(part)) for part in texts if part)


def put_events_body(
    tracking_id: str, user_id: str | None, session_id: str, events: Sequence[PutEventsEvent]
) -> bytes:
    """The body of one PutEvents call; `events` are all of that user and session, 1 to 10.

    An anonymous listener has no `userId`: the session alone identifies them.
    """
    if not 1 <= len(events) <= MAX_EVENTS_PER_CALL:
        raise ValueError(
            f"{len(events)} events; a PutEvents call allows 1 to {MAX_EVENTS_PER_CALL}"
        )
    user = "" if user_id is None else f'"userId":{encode_json(user_id)},'
    texts = ",".join([event.text for event in events])
    return (
        f'{{"trackingId":{encode_json(tracking_id)},{user}"sessionId":{encode_json(session_id)},'
        f'"eventList":[{texts}]}}'
    ).encode()


def id_problem(name: str, value: object, maximum: int = MAX_ID_LENGTH) -> str | None:
    """The fault of an id, with the name of its field and without its value; None for a valid id."""
    if type(value) is not str:
        return f"{name} is missing" if value is None else f"{name} is not a text"
    if not value:
        return f"{name} is empty"
    return (
        f"{name} has {len(value)} characters, at most {maximum}" if len(value) > maximum else None
    )


def _impression_problem(impression: object) -> str | None:
    if not isinstance(impression, list | tuple):
        return "impression is not a list"
    if len(impression) > MAX_IMPRESSION_ITEMS:
        return f"impression has {len(impression)} items, at most {MAX_IMPRESSION_ITEMS}"
    for index, item in enumerate(impression):
        problem = id_problem(f"impression[{index}]", item)
        if problem is not None:
            return problem
    return None
