"""Amazon Personalize as a destination: PutEvents for interactions.

requests         enriched event -> PutEvents event, with every limit checked before anything is sent
client           the signed client of connectors.aws, for Personalize
classification   the service's answer -> outcome, by error code
destination      the three together, as the sink engine wants them
"""

from __future__ import annotations

from connectors.personalize.classification import Answer, NoAnswer, classify
from connectors.personalize.client import (
    BotocoreCredentials,
    SignedJsonClient,
    personalize_events_endpoint,
)
from connectors.personalize.destination import (
    PutEventsDestination,
    PutEventsSettings,
    put_events_destination,
)
from connectors.personalize.requests import (
    DEFAULT_PROPERTIES,
    EventProperty,
    EventRequests,
    PutEventsEvent,
    put_events_body,
)

__all__ = [
    "DEFAULT_PROPERTIES",
    "Answer",
    "BotocoreCredentials",
    "EventProperty",
    "EventRequests",
    "NoAnswer",
    "PutEventsDestination",
    "PutEventsEvent",
    "PutEventsSettings",
    "SignedJsonClient",
    "classify",
    "personalize_events_endpoint",
    "put_events_body",
    "put_events_destination",
]
