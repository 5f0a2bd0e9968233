"""What the handlers are told by their environment, as Lambda functions are.

TUNEMESH_BOOTSTRAP_SERVERS  the brokers
TUNEMESH_KAFKA_PROPERTIES   properties of librdkafka as JSON, such as those of security
TUNEMESH_REGISTRY           the Glue registry's name (tunemesh)
TUNEMESH_DATABASE           the users' database, as libpq takes it
AWS_REGION, AWS_ENDPOINT_URL_GLUE, AWS_ENDPOINT_URL_DYNAMODB   as everywhere
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from connectors.glue.registry import GlueRegistry
from schemas.errors import TunemeshError
from services.publishing import TopicPublisher


class ServiceSettingError(TunemeshError):
    """A variable that is missing or cannot be used: its name, and what was expected."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """The settings of a handler; what one does not need may be empty."""

    bootstrap_servers: str
    kafka_properties: tuple[tuple[str, str], ...]
    registry: str
    registry_endpoint: str | None
    region: str
    database: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ServiceSettings:
        """Settings from the variables; raises ServiceSettingError."""
        variables = os.environ if environ is None else environ
        text = variables.get("TUNEMESH_KAFKA_PROPERTIES") or "{}"
        try:
            properties = {str(name): str(value) for name, value in json.loads(text).items()}
        except (ValueError, AttributeError):
            raise ServiceSettingError(
                f"TUNEMESH_KAFKA_PROPERTIES={text!r}: expected a JSON object."
            ) from None
        return cls(
            bootstrap_servers=variables.get("TUNEMESH_BOOTSTRAP_SERVERS", ""),
            kafka_properties=tuple(sorted(properties.items())),
            registry=variables.get("TUNEMESH_REGISTRY") or "tunemesh",
            registry_endpoint=variables.get("AWS_ENDPOINT_URL_GLUE") or None,
            region=variables.get("AWS_REGION") or "us-east-1",
            database=variables.get("TUNEMESH_DATABASE", ""),
        )

    @property
    def required_database(self) -> str:
        """Where the users are; raises ServiceSettingError where nothing says so."""
        if not self.database:
            raise ServiceSettingError("TUNEMESH_DATABASE is not set: expected the users' database.")
        return self.database

    def publisher(self) -> TopicPublisher:
        """The publisher of this process, one for all that have the same settings."""
        if not self.bootstrap_servers:
            raise ServiceSettingError(
                "TUNEMESH_BOOTSTRAP_SERVERS is not set: expected the addresses of the brokers."
            )
        return _publisher(self)


@functools.cache
def _publisher(settings: ServiceSettings) -> TopicPublisher:
    registry = GlueRegistry.connect(settings.region, settings.registry_endpoint, settings.registry)
    return TopicPublisher(settings.bootstrap_servers, registry, dict(settings.kafka_properties))
