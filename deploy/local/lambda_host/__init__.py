"""The domains' back ends on the laptop: what AWS has around Lambda handlers, in one process.

An HTTP API in front of the handlers (:mod:`deploy.local.lambda_host.gateway`), the event source
mappings of DynamoDB Streams (:mod:`deploy.local.lambda_host.event_source`), and the publisher of
the outbox, which here runs all the time. Needs kafka, aws, postgresql and dynamodb.
"""

from __future__ import annotations

import sys

from deploy.local.process import Launch, Server, answers
from deploy.local.settings import PROJECT, LocalSettings

PART = "services"
HEALTH = "/_local/health"


def server(settings: LocalSettings) -> Server:
    """The process."""
    return Server(
        name=PART,
        part=PART,
        ports=(settings.services,),
        address=settings.services.url,
        prepare=lambda: Launch(
            (sys.executable, "-m", "deploy.local.lambda_host"),
            {
                "PYTHONPATH": str(PROJECT),
                # It starts in the home, from which a relative one would count.
                "TUNEMESH_HOME": str(settings.home),
                **{port.variable: str(port.number) for port in settings.ports()},
            },
        ),
        healthy=lambda: answers(settings.services.url + HEALTH),
    )
