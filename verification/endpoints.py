"""Addresses of the services that verification reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of the services, and the folder of the local platform's state.

    ``personalize`` is the base URL of the local Personalize; None leaves it out.
    ``registry_endpoint`` None means AWS. ``kafka_client``: properties of librdkafka, such as those
    of security.
    """

    bootstrap_servers: str
    home: Path
    region: str
    registry_name: str
    bucket: str
    delivery_prefix: str
    registry_endpoint: str | None = None
    personalize: str | None = None
    opensearch: str | None = None
    kafka_client: tuple[tuple[str, str], ...] = ()
