"""The sink engine: every record that is handed over comes back delivered or rejected.

Pure asyncio: no Flink, no AWS, no clock and no randomness of its own. What a destination is, is
said in `destination`; what can become of a record in `outcomes`; the promises in `engine`.
"""

from __future__ import annotations

from connectors.delivery.destination import Destination, Limits, Replacing, Version
from connectors.delivery.engine import DeliveryEngine
from connectors.delivery.metrics import CATALOGUE, DeliveryMetrics, Metric
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
    "DeliveryMetrics",
    "DeliverySettings",
    "Destination",
    "Fatal",
    "FatalDeliveryError",
    "Limits",
    "Metric",
    "Outcome",
    "Rejected",
    "Replacing",
    "Retry",
    "Settled",
    "Superseded",
    "Version",
]
