"""Where the servers are that the accounts talk to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of the platform's parts, and the folder of the project's state.

    ``personalize`` is the base URL of the local Personalize; None where the accounts shall not
    look at it. ``registry_endpoint`` None means AWS itself.
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
