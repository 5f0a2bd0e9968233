"""The server of the AWS emulator (:mod:`emulators.aws`)."""

from __future__ import annotations

import sys

from deploy.local.process import Launch, Server, answers
from deploy.local.settings import PROJECT, LocalSettings
from emulators.aws import HEALTH

PART = "aws"


def server(settings: LocalSettings) -> Server:
    """The process."""
    return Server(
        name=PART,
        part=PART,
        ports=(settings.aws,),
        address=settings.aws.url,
        prepare=lambda: Launch(
            (
                sys.executable,
                "-m",
                "emulators.aws",
                "--port",
                str(settings.aws.number),
                "--data",
                str(settings.data(PART)),
            ),
            {"PYTHONPATH": str(PROJECT)},
        ),
        healthy=lambda: answers(settings.aws.url + HEALTH),
    )
