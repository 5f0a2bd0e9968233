"""Amazon Personalize as a destination: PutEvents for interactions, PutUsers and PutItems.

requests              enriched event -> event of PutEvents; all limits checked before it is sent
datasets              user or item -> record of PutUsers or PutItems; likewise
client                the signed client of connectors.aws, for Personalize
classification        the service's answer -> outcome, by error code
destination           PutEvents, as a destination of the sink engine
dataset_destination   PutUsers and PutItems, likewise
"""

from __future__ import annotations

from connectors.personalize.dataset_destination import (
    PutDatasetSettings,
    PutRecordsDestination,
    put_items_destination,
    put_users_destination,
)
from connectors.personalize.datasets import (
    ITEMS,
    DatasetRecord,
    dataset_fields,
)
from connectors.personalize.destination import (
    PutEventsDestination,
    PutEventsSettings,
    put_events_destination,
)
from connectors.personalize.requests import (
    EventRequests,
    PutEventsEvent,
)

__all__ = [
    "ITEMS",
    "DatasetRecord",
    "EventRequests",
    "PutDatasetSettings",
    "PutEventsDestination",
    "PutEventsEvent",
    "PutEventsSettings",
    "PutRecordsDestination",
    "dataset_fields",
    "put_events_destination",
    "put_items_destination",
    "put_users_destination",
]
