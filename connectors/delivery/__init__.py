"""The sink engine: every record that is handed over comes back delivered or rejected.

Pure asyncio: no Flink, no AWS, no clock and no randomness of its own.

destination   the protocol and the limits of a destination
outcomes      the outcomes of a record
engine        the guarantees, and what keeps them
schedule      which entries go next
rate          the pace of calls
"""

from __future__ import annotations

from connectors.delivery.destination import Destination, Limits, Version
from connectors.delivery.engine import DeliveryEngine
from connectors.delivery.metrics import CATALOGUE
from connectors.delivery.outcomes import (
    Delivered,
    DeliveryClosedError,
    Fatal,
    FatalDeliveryError,
    Outcome,
    Rejected,
    Retry,
    Settled,
    Superseded,
)
from connectors.delivery.settings import DeliverySettings

__all__ = [
    "CATALOGUE",
    "Delivered",
    "DeliveryClosedError",
    "DeliveryEngine",
    "DeliverySettings",
    "Destination",
    "Fatal",
    "FatalDeliveryError",
    "Limits",
    "Outcome",
    "Rejected",
    "Retry",
    "Settled",
    "Superseded",
    "Version",
]
