"""The addresses of the local platform's services, as verification needs them."""

from __future__ import annotations

import os

from deploy.local.settings import BUCKET, DELIVERY_PREFIX, REGION, REGISTRY, LocalSettings
from verification.endpoints import Endpoints


def local_endpoints(settings: LocalSettings | None = None) -> Endpoints:
    """Return the addresses of the local platform; without settings, as the environment has it.

    Raises SettingError.
    """
    settings = settings or LocalSettings.from_environment(os.environ)
    return Endpoints(
        bootstrap_servers=settings.kafka.address,
        home=settings.home,
        region=REGION,
        registry_name=REGISTRY,
        bucket=BUCKET,
        delivery_prefix=DELIVERY_PREFIX,
        registry_endpoint=settings.aws.url,
        personalize=settings.personalize.url,
        opensearch=settings.opensearch.url,
    )
