"""Free ports for the servers that tests start."""

from __future__ import annotations

import itertools
import os
import random
import socket

from deploy.local.settings import HOST

NAMES = (
    "KAFKA", "KAFKA_CONTROLLER", "AWS", "PERSONALIZE", "OPENSEARCH", "FLINK",
    "POSTGRESQL", "DYNAMODB", "SERVICES",
)  # fmt: skip
"""The servers of the platform, as in ``TUNEMESH_<name>_PORT``."""

MAX_WORKERS = 16
# Below the ranges of outgoing connections (Linux from 32768, macOS from 49152): one of those could
# take the port before the server binds it. Each worker of pytest-xdist has a share of its own.
_SHARE = range(
    10_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % MAX_WORKERS,
    20_000,
    MAX_WORKERS,
)
_candidates = itertools.islice(itertools.cycle(_SHARE), random.randrange(len(_SHARE)), None)


def free_port() -> int:
    """Return a port that nobody listens on, another one at each call."""
    for port in itertools.islice(_candidates, len(_SHARE)):
        with socket.socket() as trial:
            try:
                trial.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError("no free port")


def variables() -> dict[str, str]:
    """Return the environment variables of a platform on free ports."""
    return {f"TUNEMESH_{name}_PORT": str(free_port()) for name in NAMES}
