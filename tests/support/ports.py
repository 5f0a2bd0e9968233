"""Ports that nobody listens on, for what tests start."""

from __future__ import annotations

import socket
from contextlib import ExitStack

NAMES = (
    "KAFKA", "KAFKA_CONTROLLER", "AWS", "PERSONALIZE", "OPENSEARCH", "FLINK",
    "POSTGRESQL", "DYNAMODB", "SERVICES",
)  # fmt: skip
"""The servers of the platform, as ``TUNEMESH_<name>_PORT`` has them."""


def free_ports(count: int) -> list[int]:
    """So many at once, each another one."""
    with ExitStack() as stack:
        trials = [stack.enter_context(socket.socket()) for _ in range(count)]
        for trial in trials:
            trial.bind(("127.0.0.1", 0))
        return [int(trial.getsockname()[1]) for trial in trials]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def variables() -> dict[str, str]:
    """The environment variables of a platform on ports of its own."""
    ports = zip(NAMES, free_ports(len(NAMES)), strict=True)
    return {f"TUNEMESH_{name}_PORT": str(port) for name, port in ports}
