"""AWS on the laptop: Glue Schema Registry, Firehose and S3 in one process, by moto.

moto answers; what it lacks is around it. State that must outlast a restart is kept in files
(:mod:`deploy.local.aws.state`, :mod:`deploy.local.aws.objects`), and Firehose's limits and failures
on demand are in front of it (:mod:`deploy.local.aws.firehose`).
"""

from __future__ import annotations

import sys

from deploy.local.process import Launch, Server, answers
from deploy.local.settings import PROJECT, LocalSettings

PART = "aws"
HEALTH = "/_local/health"


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
                "deploy.local.aws",
                "--port",
                str(settings.aws.number),
                "--data",
                str(settings.data(PART)),
            ),
            {"PYTHONPATH": str(PROJECT)},
        ),
        healthy=lambda: answers(settings.aws.url + HEALTH),
    )
