"""Amazon Personalize as a destination: PutEvents for interactions, PutUsers and PutItems.

requests              enriched event -> event of PutEvents; all limits checked before it is sent
datasets              user or item -> record of PutUsers or PutItems; likewise
client                the signed client of connectors.aws, for Personalize
classification        the service's answer -> outcome, by error code
destination           PutEvents, as a destination of the sink engine
dataset_destination   PutUsers and PutItems, likewise
"""

from __future__ import annotations

from connectors.personalize.classification import Answer, NoAnswer, classify
from connectors.personalize.client import (
    BotocoreCredentials,
    SignedJsonClient,
    personalize_events_endpoint,
)
from connectors.personalize.dataset_destination import (
    PutDatasetSettings,
    PutRecordsDestination,
    put_items_destination,
    put_users_destination,
)
from connectors.personalize.datasets import (
    ITEMS,
    USERS,
    Dataset,
    DatasetField,
    DatasetRecord,
    FieldKind,
    dataset_fields,
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
    "ITEMS",
    "USERS",
    "Answer",
    "BotocoreCredentials",
    "Dataset",
    "DatasetField",
    "DatasetRecord",
    "EventProperty",
    "EventRequests",
    "FieldKind",
    "NoAnswer",
    "PutDatasetSettings",
    "PutEventsDestination",
    "PutEventsEvent",
    "PutEventsSettings",
    "PutRecordsDestination",
    "SignedJsonClient",
    "classify",
    "dataset_fields",
    "personalize_events_endpoint",
    "put_events_body",
    "put_events_destination",
    "put_items_destination",
    "put_users_destination",
]
