"""Where the servers are that the accounts talk to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deploy.local.settings import REGION, REGISTRY, LocalSettings


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of the platform's parts, and the folder of the project's state.

    ``personalize`` is the base URL of the local Personalize; None where the accounts shall not
    look at it. ``registry_endpoint`` None means AWS itself.
    """

    bootstrap_servers: str
    home: Path
    registry_endpoint: str | None = None
    personalize: str | None = None
    opensearch: str | None = None
    region: str = REGION
    registry_name: str = REGISTRY

    @classmethod
    def of(cls, settings: LocalSettings) -> Endpoints:
        """The laptop platform with those settings."""
        return cls(
            bootstrap_servers=settings.kafka.address,
            home=settings.home,
            registry_endpoint=settings.aws.url,
            personalize=settings.personalize.url,
            opensearch=settings.opensearch.url,
        )

    @classmethod
    def local(cls) -> Endpoints:
        """The laptop platform as the environment has it; raises SettingError."""
        return cls.of(LocalSettings.from_environment(os.environ))
