"""PutEvents as a destination of the sink engine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.aws import ClassifiedCalls, JsonClient
from connectors.delivery import Limits, Outcome, Rejected
from connectors.personalize.classification import classify
from connectors.personalize.client import events_client
from connectors.personalize.requests import (
    DEFAULT_PROPERTIES,
    MAX_EVENT_BYTES,
    MAX_EVENTS_PER_CALL,
    PUT_EVENTS_CALLS_PER_SECOND,
    EventProperty,
    EventRequests,
    PutEventsEvent,
    put_events_body,
)
from schemas.errors import SettingError
from schemas.rules import MAX_ID_LENGTH
from schemas.settings import check_positive

_PATH = "/events"


@dataclass(frozen=True, slots=True)
class PutEventsSettings:
    """Target and pace of PutEvents.

    tracking_id          of the event tracker
    region               also names the endpoint, unless endpoint_url does
    endpoint_url         such as the emulator's; None: the service's own
    calls_per_second     the quota of the dataset group (adjustable, hence a setting)
    max_in_flight        calls under way, and connections; at 20 ms a call the quota needs 20, and
                         four times as many leave room for slow ones
    request_timeout      seconds for one call
    properties           the metadata fields to send, most important first
    """

    tracking_id: str
    region: str
    endpoint_url: str | None = None
    calls_per_second: float = PUT_EVENTS_CALLS_PER_SECOND
    max_in_flight: int = 80
    request_timeout: float = 10.0
    properties: tuple[EventProperty, ...] = DEFAULT_PROPERTIES

    def __post_init__(self) -> None:
        if not 1 <= len(self.tracking_id) <= MAX_ID_LENGTH:
            raise SettingError("tracking_id", self.tracking_id, f"1 to {MAX_ID_LENGTH} characters")
        check_positive(self, "request_timeout")


class PutEventsDestination:
    """Up to ten events of one user and session a call, in the order in which they happened.

    Events of a session stay in order even where a listener signs in halfway: the calls before have
    no user, those after have one, and the session is the order key of both.
    """

    def __init__(self, client: JsonClient, settings: PutEventsSettings) -> None:
        self._calls = ClassifiedCalls(client, classify)
        self._tracking_id = settings.tracking_id
        self.requests = EventRequests(settings.properties)
        self._limits = Limits(
            max_records=MAX_EVENTS_PER_CALL,
            # PutEvents has no limit of bytes for a call beside that for an event.
            max_bytes=MAX_EVENTS_PER_CALL * MAX_EVENT_BYTES,
            max_record_bytes=MAX_EVENT_BYTES,
            max_in_flight=settings.max_in_flight,
            calls_per_second=settings.calls_per_second,
        )

    @property
    def name(self) -> str:
        return "Amazon Personalize (PutEvents)"

    @property
    def limits(self) -> Limits:
        return self._limits

    def prepare(self, record: Mapping[str, Any]) -> PutEventsEvent | Rejected:
        return self.requests.convert(record)

    def batch_key(self, entry: PutEventsEvent) -> Hashable:
        return (entry.user_id, entry.session_id)

    def order_key(self, entry: PutEventsEvent) -> Hashable:
        return entry.session_id

    def size(self, entry: PutEventsEvent) -> int:
        return entry.size

    async def send(self, batch: Sequence[PutEventsEvent]) -> Sequence[Outcome]:
        first = batch[0]
        body = put_events_body(self._tracking_id, first.user_id, first.session_id, batch)
        outcome, _ = await self._calls.post(_PATH, body)
        return [outcome] * len(batch)

    async def close(self) -> None:
        await self._calls.close()


def put_events_destination(settings: PutEventsSettings) -> PutEventsDestination:
    """The destination for settings, with botocore's credential chain. Opens nothing yet."""
    client = events_client(
        settings.region, settings.endpoint_url, settings.max_in_flight, settings.request_timeout
    )
    return PutEventsDestination(client, settings)
