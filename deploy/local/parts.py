"""The parts of the platform: what `up`, `down` and `status` know by name."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from connectors.flink import java
from deploy.local import (
    aws,
    dynamodb,
    flink_cluster,
    kafka,
    opensearch,
    postgresql,
)
from deploy.local import (
    lambda_host as services,
)
from deploy.local.process import Launch, Server, answers
from deploy.local.settings import PROJECT, LocalSettings
from schemas.errors import TunemeshError

PERSONALIZE = "personalize"
MOTION = (kafka.PART, aws.PART, PERSONALIZE, opensearch.PART, flink_cluster.PART)
"""What the streams need: what `up` starts when it is given no name."""

NAMES = (*MOTION, postgresql.PART, dynamodb.PART, services.PART)


class UnknownPartError(TunemeshError):
    """A name that is no part."""

    exit_code = 2

    def __init__(self, name: str) -> None:
        super().__init__(f"no part {name!r}; there are: {', '.join(NAMES)}.")


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The named parts in the order of the platform, all for no name; UnknownPartError for
    another."""
    wanted = set(names)
    for name in sorted(wanted - set(NAMES)):
        raise UnknownPartError(name)
    return tuple(name for name in NAMES if not wanted or name in wanted)


def to_start(names: Iterable[str]) -> tuple[str, ...]:
    """The named parts in the order of the platform, those of the streams for no name."""
    return chosen(tuple(names) or MOTION)


def servers(
    settings: LocalSettings, names: Iterable[str], environ: Mapping[str, str]
) -> tuple[Server, ...]:
    """The servers of the named parts (all for no name). Starts none of them.

    Raises :class:`connectors.flink.java.JavaError` when one of them needs Java and there is none.
    """
    result: list[Server] = []
    for name in chosen(names):
        if name == kafka.PART:
            result.append(kafka.server(settings, java.find(environ)))
        elif name == aws.PART:
            result.append(aws.server(settings))
        elif name == PERSONALIZE:
            result.append(_personalize(settings))
        elif name == opensearch.PART:
            result.append(opensearch.server(settings, java.find(environ)))
        elif name == postgresql.PART:
            result.append(postgresql.server(settings))
        elif name == dynamodb.PART:
            result.append(dynamodb.server(settings, java.find(environ)))
        elif name == services.PART:
            result.append(services.server(settings))
        else:
            result.extend(flink_cluster.servers(settings, java.find(environ)))
    return tuple(result)


def part_of(server: str) -> str:
    """The part that a server belongs to, by its name."""
    return flink_cluster.PART if server.startswith("flink-") else server


def _personalize(settings: LocalSettings) -> Server:
    return Server(
        name=PERSONALIZE,
        part=PERSONALIZE,
        ports=(settings.personalize,),
        address=settings.personalize.url,
        prepare=lambda: Launch(
            (
                sys.executable,
                "-m",
                "emulators.personalize",
                "--port",
                str(settings.personalize.number),
                "--data",
                str(settings.data(PERSONALIZE)),
                "--s3-endpoint",
                settings.aws.url,
            ),
            {"PYTHONPATH": str(PROJECT)},
        ),
        healthy=lambda: answers(settings.personalize.url + "/_local/health"),
    )
