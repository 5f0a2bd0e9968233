"""The services of the local platform, by the names that `up`, `down` and `status` accept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from deploy.local import dynamodb, flink_cluster, kafka, opensearch, postgresql, python_servers
from deploy.local.process import Server
from deploy.local.settings import LocalSettings
from schemas.errors import TunemeshError

_SERVERS: Mapping[str, Callable[[LocalSettings, Mapping[str, str]], tuple[Server, ...]]] = {
    kafka.NAME: kafka.servers,
    python_servers.AWS: python_servers.aws_servers,
    python_servers.PERSONALIZE: python_servers.personalize_servers,
    opensearch.NAME: opensearch.servers,
    flink_cluster.NAME: flink_cluster.servers,
    postgresql.NAME: postgresql.servers,
    dynamodb.NAME: dynamodb.servers,
    python_servers.BACK_ENDS: python_servers.back_end_servers,
}

NAMES = tuple(_SERVERS)
STREAMING = NAMES[: NAMES.index(postgresql.NAME)]
"""The services that streams need, which `up` starts by default."""


class UnknownServiceError(TunemeshError):
    """The platform has no service of that name."""

    exit_code = 2

    def __init__(self, name: str) -> None:
        super().__init__(f"no service {name!r}. Services: {', '.join(NAMES)}.")


def select(names: Iterable[str], default: Iterable[str] = NAMES) -> tuple[str, ...]:
    """Return the named services, by default ``default``, in the order of the platform.

    Raises UnknownServiceError.
    """
    wanted = set(names) or set(default)
    for name in sorted(wanted - set(NAMES)):
        raise UnknownServiceError(name)
    return tuple(name for name in NAMES if name in wanted)


def servers(
    settings: LocalSettings, names: Iterable[str], environ: Mapping[str, str]
) -> tuple[Server, ...]:
    """Return the servers of the named services, by default of all, without starting them.

    Raises :class:`connectors.flink.java.JavaError` when one of them needs Java and none is found.
    """
    return tuple(server for name in select(names) for server in _SERVERS[name](settings, environ))


def service_of(server: str) -> str:
    """Return the service of a server, by the server's name."""
    return flink_cluster.NAME if server.startswith("flink-") else server
