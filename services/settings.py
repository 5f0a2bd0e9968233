"""Settings of the handlers: environment variables, as Lambda functions have them."""

from __future__ import annotations

import functools
import json
import os
from typing import Literal

from connectors.aws.secrets import resolve_secrets
from connectors.glue.registry import GlueRegistry
from schemas.settings import ENVIRONMENT, TEXT, Kind, choice, group, read, require, setting
from services.publishing import TopicPublisher


def _properties(text: str) -> tuple[tuple[str, str], ...]:
    properties = json.loads(text)
    if not isinstance(properties, dict):
        raise ValueError(text)
    return tuple(sorted((name, str(value)) for name, value in properties.items()))


@group(ENVIRONMENT)
class ServiceSettings:
    """The settings of a handler; those that it does not need may be missing."""

    bootstrap_servers: str | None = setting(
        "TUNEMESH_BOOTSTRAP_SERVERS",
        TEXT,
        "Kafka's bootstrap servers, for the back ends that publish",
        default=None,
    )
    kafka_properties: tuple[tuple[str, str], ...] = setting(
        "TUNEMESH_KAFKA_PROPERTIES",
        Kind("a JSON object", _properties),
        "properties of librdkafka for the back ends, such as those of security; `${secret:ARN}` or"
        " `${secret:ARN#KEY}` in a value stands for a secret of AWS Secrets Manager",
        default="{}",
        secret=True,
    )
    registry: str = setting(
        "TUNEMESH_REGISTRY", TEXT, "name of the back ends' Glue registry", default="tunemesh"
    )
    registry_endpoint: str | None = setting(
        "AWS_ENDPOINT_URL_GLUE", TEXT, "endpoint of Glue, if it is not the region's", default=None
    )
    region: str = setting("AWS_REGION", TEXT, "AWS region of the back ends", default="us-east-1")
    database: str | None = setting(
        "TUNEMESH_DATABASE",
        TEXT,
        "the users' database, as libpq accepts it, with `${secret:...}` as above",
        default=None,
        secret=True,
    )

    authorization: Literal["required", "off"] = setting(
        "TUNEMESH_AUTHORIZATION",
        choice("required", "off"),
        "off: the back ends serve every request, whoever calls; the local platform sets it",
        default="required",
    )
    user_claim: str = setting(
        "TUNEMESH_USER_CLAIM",
        TEXT,
        "the caller's user id: a claim of a JWT, or a key of a Lambda authoriser's context",
        default="sub",
    )

    @classmethod
    def from_environment(cls) -> ServiceSettings:
        """Settings from the variables of this process; raises SettingError."""
        return read(cls, {ENVIRONMENT: os.environ})

    @property
    def required_database(self) -> str:
        """The users' database; raises SettingError when it is missing, SecretError."""
        database = resolve_secrets({"TUNEMESH_DATABASE": require(self, "database")})
        return str(database["TUNEMESH_DATABASE"])

    def publisher(self) -> TopicPublisher:
        """The publisher of this process, one for all that have the same settings; raises
        SettingError when the brokers are missing."""
        return _publisher(self)


@functools.cache
def _publisher(settings: ServiceSettings) -> TopicPublisher:
    brokers = require(settings, "bootstrap_servers")
    registry = GlueRegistry.connect(settings.region, settings.registry_endpoint, settings.registry)
    return TopicPublisher(brokers, registry, resolve_secrets(dict(settings.kafka_properties)))
