"""The services that are Python programs of this repository: emulators and back ends."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from deploy.local.process import Launch, Server, is_answering
from deploy.local.settings import PROJECT, LocalSettings, Port
from emulators import aws

AWS, PERSONALIZE, BACK_ENDS = "aws", "personalize", "services"
HEALTH = "/_local/health"


def aws_servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the server of the AWS emulator (:mod:`emulators.aws`)."""
    arguments = ("--port", str(settings.aws.number), "--data", str(settings.data(AWS)))
    return (_server(AWS, settings.aws, "emulators.aws", arguments, health=aws.HEALTH),)


def personalize_servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the server of the emulator of Personalize (:mod:`emulators.personalize`)."""
    port, data = str(settings.personalize.number), str(settings.data(PERSONALIZE))
    arguments = ("--port", port, "--data", data, "--s3-endpoint", settings.aws.url)
    return (_server(PERSONALIZE, settings.personalize, "emulators.personalize", arguments),)


def back_end_servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the server of the domains' back ends (:mod:`deploy.local.lambda_host`)."""
    environment = {
        # The server starts in the home, to which a relative path would be relative.
        "TUNEMESH_HOME": str(settings.home),
        **{port.variable: str(port.number) for port in settings.ports()},
    }
    return (_server(BACK_ENDS, settings.services, "deploy.local.lambda_host", (), environment),)


def _server(
    name: str,
    port: Port,
    module: str,
    arguments: tuple[str, ...],
    environment: Mapping[str, str] | None = None,
    health: str = HEALTH,
) -> Server:
    return Server(
        name=name,
        ports=(port,),
        address=port.url,
        prepare=lambda: Launch(
            (sys.executable, "-m", module, *arguments),
            {"PYTHONPATH": str(PROJECT), **(environment or {})},
        ),
        is_healthy=lambda: is_answering(port.url + health),
    )
